"""The HTML report: whole in itself, true to the results, and drawn by a real browser."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from browser import drawn, needs_chromium, opened
from sim_worlds import poisson, pool, scenario
from splitweave.sim.results.api import simulate
from splitweave.sim.results.cards import Card, cards_of, number, seconds
from splitweave.sim.results.compare import comparison_page
from splitweave.sim.results.html import page_of, plotly_js
from splitweave.sim.results.plots import compared, plots_of
from splitweave.sim.results.results import Results, read_results
from splitweave.sim.results.text_tables import tables_of

needs_plotly = pytest.mark.skipif(
    find_spec("plotly") is None,
    reason="plotly is not installed: pip install 'splitweave[report]'",
)
DEVICES = {"a": {"kind": "device", "device": "H100"}, "b": {"kind": "device", "device": "A100-80G"}}
POOLS = [pool("prefill", "prefill"), pool("decode", "decode", count=3, hardware="b")]


@pytest.fixture(name="ran", scope="module")
def _ran() -> Results:
    return simulate(
        scenario(hardware=DEVICES, pools=POOLS, workload=poisson(40, 60, 60, 40)), name="a < b"
    )


def _plots(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    plots: dict[str, Any] = json.loads(found.group(1))
    return plots


def test_headline_figures_are_those_of_the_results(ran: Results) -> None:
    cards = {card.what: card for card in cards_of(ran)}
    assert cards["SLO attainment"].figure == "100.0%"
    assert cards["SLO attainment"].mood == "good"
    assert cards["Price"].figure == f"${ran.bill.dollars_per_hour:.2f}"
    assert ran.metrics.ttft is not None
    assert (cards["TTFT p90"].figure, cards["TTFT p90"].unit) == seconds(ran.metrics.ttft.p90_s)
    assert cards["Moves"].figure == "60"


def test_a_bound_that_is_missed_is_red_and_a_run_without_tokens_has_dashes() -> None:
    late = simulate(scenario(slo={"ttft_s": 1e-6, "tpot_s": 1e-6}))
    moods = {card.what: card.mood for card in cards_of(late)}
    assert moods["SLO attainment"] == moods["TTFT p90"] == moods["TPOT p90"] == "bad"
    tight: Any = {"cluster": {"queue_len_max": 1}, "worker": {"queue_len_max": 1}}
    none = simulate(scenario(pools=[pool("m", "mixed", blocks=1)], limits=tight))
    cards: dict[str, Card] = {card.what: card for card in cards_of(none)}
    assert cards["TTFT p90"].figure == "–"
    assert "Price" not in cards
    assert plots_of(none).keys() <= {"busy", "batch", "heat"}


def test_figures_have_three_digits_that_count() -> None:
    assert [number(value) for value in (0.012345, 1.2345, 123.45, 12345.6)] == [
        "0.0123", "1.23", "123", "12,346",
    ]  # fmt: skip
    assert [seconds(value) for value in (0.00123, 1.234)] == [("1.23", "ms"), ("1.23", "s")]


def test_every_plot_shows_the_results(ran: Results) -> None:
    plots = plots_of(ran)
    assert set(plots) == {
        "ttft", "tpot", "e2e", "bands", "moves", "rates", "tokens", "flight", "busy",
        "batch", "heat",
    }  # fmt: skip
    assert plots["ttft"]["data"][0]["x"] == list(ran.quantiles.ttft_s)
    assert plots["ttft"]["layout"]["shapes"][0]["x0"] == 2.0
    assert "shapes" not in plots["e2e"]["layout"]
    assert [trace["name"] for trace in plots["busy"]["data"]] == ["prefill", "decode"]
    (heat,) = plots["heat"]["data"]
    assert heat["y"] == ["prefill-0", "decode-0", "decode-1", "decode-2"]
    assert len(heat["z"]) == 4
    stacked = plots["bands"]["data"]
    assert sum(trace["y"][0] for trace in stacked) == pytest.approx(ran.bands[0].ttft_s)
    json.dumps(plots, allow_nan=False)


def test_tables_are_as_wide_as_their_heads_and_tpot_says_it_is_without_ttft(ran: Results) -> None:
    tables = tables_of(ran)
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "the TTFT is no part of it" in tables[0].caption
    assert [row[0] for row in tables[-1].rows] == ["prefill", "decode"]


@needs_plotly
def test_the_page_carries_everything_and_asks_the_network_for_nothing(ran: Results) -> None:
    page = page_of(ran)
    ours = page.replace(plotly_js(), "")
    assert page != ours
    for asking in ("src=", "@import", "url(", "fetch(", '<link rel="stylesheet"'):
        assert asking not in ours
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", ours, flags=re.DOTALL)
    assert "<title>a &lt; b: simulated</title>" in page
    assert _plots(page).keys() == plots_of(ran).keys()
    for line in ran.provenance:
        assert line.split(":")[0] in page
    assert "seed" in page


@needs_plotly
def test_a_page_can_be_made_of_results_read_from_a_file(ran: Results, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(ran.as_json())
    assert page_of(read_results(tmp_path)) == page_of(ran)


@needs_plotly
@needs_chromium
def test_chromium_draws_every_plot_without_a_word_on_its_console(
    ran: Results, tmp_path: Path
) -> None:
    other = simulate(scenario(hardware=DEVICES, pools=POOLS, seed=2), name="other")
    for name, text, plots in (
        ("report", page_of(ran), plots_of(ran)),
        ("compare", comparison_page([ran, other]), compared([ran, other], ["1", "2"])),
    ):
        page = tmp_path / f"{name}.html"
        page.write_text(text)
        dom, console = opened(page, tmp_path / "profile")
        assert console == ""
        assert f'data-drawn="{len(plots)}"' in dom
        for plot in plots:
            assert drawn(dom, plot), plot


@needs_chromium
def test_the_check_sees_an_error_on_the_console(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>nothing.here()</script>")
    _, console = opened(page, tmp_path / "profile")
    assert "nothing is not defined" in console
