"""Price and power of a run: from the catalogue, for every GPU, wherever they are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sim_worlds import poisson, pool, scenario
from splitweave.sim.costs.catalogue import CATALOGUE
from splitweave.sim.results.api import simulate
from splitweave.sim.results.bill import bill_of, gpus_of
from splitweave.sim.results.cards import cards_of
from splitweave.sim.results.compare import comparison
from splitweave.sim.results.results import Results
from splitweave.sim.results.text_tables import tables_of

H100: dict[str, Any] = {"kind": "device", "device": "H100"}
TABLE = """# engine = e
# version = 1
# kernel = k
# device = d
# model = m
# date = 2026-01-01
prefill_tokens,prefill_context,decodes,decode_context,time_us
1,0,0,0,1000
512,0,0,0,9000
0,0,1,16,1000
0,0,64,16,2000
"""


@pytest.fixture(name="ran", scope="module")
def _ran() -> Results:
    given = scenario(hardware={"a": H100}, workload=poisson(40, 60, 60, 40))
    return simulate(given, name="two H100")


def test_a_run_on_known_devices_has_a_price_and_draws_power(ran: Results) -> None:
    bill, metrics = ran.bill, ran.metrics
    assert bill.gpus == 2
    assert bill.dollars_per_hour == pytest.approx(2 * 4.76)
    assert bill.mean_w is not None
    assert 2 * 70 < bill.mean_w < 2 * 700  # between idle and peak
    assert metrics.energy_j == pytest.approx(bill.mean_w * metrics.virtual_s)
    tokens = metrics.prompt_tokens + metrics.output_tokens
    assert bill.token_j == pytest.approx(bill.mean_w * metrics.virtual_s / tokens)


def test_price_and_power_are_among_the_headline_figures(ran: Results) -> None:
    cards = {card.what: card for card in cards_of(ran)}
    assert cards["Price"].figure == "$9.52"
    assert "per M output tokens" in cards["Price"].beside
    assert cards["Power"].unit == "kW"
    assert "J per token" in cards["Power"].beside
    assert "2 GPUs" in cards["Goodput"].beside


def test_a_cap_lowers_the_power_and_says_so_in_a_comparison(ran: Results) -> None:
    capped = simulate(
        scenario(hardware={"a": H100 | {"power_cap_w": 350.0}}, workload=poisson(40, 60, 60, 40)),
        name="capped",
    )
    assert capped.bill.mean_w is not None
    assert ran.bill.mean_w is not None
    assert capped.bill.mean_w < ran.bill.mean_w
    rows = {row[0]: row[1:] for row in comparison([ran, capped]).rows}
    assert rows["$/h"] == ["9.52", "9.52", "1.000"]
    assert float(rows["W (mean)"][2]) == pytest.approx(
        capped.bill.mean_w / ran.bill.mean_w, abs=1e-3
    )


def test_a_table_that_names_its_device_has_a_price(tmp_path: Path, ran: Results) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    spec = {"kind": "table", "path": str(path), "device": "A100-80G", "tp": 4}
    given = scenario(hardware={"a": spec}, pools=[pool("m", "mixed", count=3)])
    assert gpus_of(given, given.pools[0]) == 12
    assert bill_of(given, ran.metrics).dollars_per_hour == pytest.approx(12 * 2.21)
    nameless = scenario(hardware={"a": {"kind": "table", "path": str(path)}})
    assert bill_of(nameless, ran.metrics).gpus is None


def test_prices_are_those_of_the_scenarios_own_catalogue(tmp_path: Path, ran: Results) -> None:
    own = tmp_path / "own.toml"
    text = CATALOGUE.read_text()
    assert "dollars_per_hour = { value = 4.76" in text
    cheap = text.replace("dollars_per_hour = { value = 4.76", "dollars_per_hour = { value = 1.00")
    own.write_text(cheap)
    given = scenario(hardware={"a": H100 | {"catalogue": str(own)}})
    assert bill_of(given, ran.metrics).dollars_per_hour == pytest.approx(2.0)


def test_a_run_that_served_nothing_has_a_price_per_hour_and_none_per_token(ran: Results) -> None:
    empty = replace(ran.metrics, output_tokens=0, virtual_s=0.0, slo_met=0)
    given = scenario(hardware={"a": H100})
    bill = bill_of(given, empty)
    assert bill.dollars_per_hour == pytest.approx(9.52)
    assert (bill.dollars_per_million_tokens, bill.slo_met_per_dollar) == (None, None)
    cards = {card.what: card for card in cards_of(replace(ran, bill=bill))}
    assert cards["Price"].beside == ""


def test_every_table_of_latencies_stages_and_pools_says_what_its_words_mean(ran: Results) -> None:
    for table in tables_of(ran):
        assert table.caption.count(":") >= 2
        assert not table.caption.endswith("..")
