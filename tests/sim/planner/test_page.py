"""The page of a plan: all its figures are in it, and it needs nothing else."""

import json
import re
from pathlib import Path

import pytest
from browser import drawn, needs_chromium, opened
from plan_questions import mixed, pair, small_ask, small_types
from splitweave.sim.planner.drafts import Plan, Tried, Weakness
from splitweave.sim.planner.page import page_of
from splitweave.sim.planner.trial import Verdict

pytest.importorskip("plotly")
GOOD = Verdict(
    met=True, requests=100, misses=2, late_first=2, late_rest=0, refused=0, ttft_s=0.5,
    tpot_s=0.03, goodput_per_s=2.0, span_s=5.0, placing_s=0.0, queueing_s=0.0, computing_s=0.0,
    busy=(0.5,), full=(0.3,), stopped=False,
)  # fmt: skip
BAD = Verdict(
    met=False, requests=100, misses=40, late_first=40, late_rest=0, refused=0, ttft_s=5.5,
    tpot_s=0.03, goodput_per_s=1.0, span_s=5.0, placing_s=0.0, queueing_s=3.0, computing_s=0.0,
    busy=(0.9,), full=(0.3,), stopped=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    kinds = small_types()
    plan = Plan(ask=small_ask(), types=tuple(kinds.values()))
    answer = Tried(mixed(kinds["L40S-TP1"], 2), GOOD)
    fewer = Tried(mixed(kinds["L40S-TP1"], 1), BAD)
    plan.cheapest = answer
    plan.tried = [answer, fewer, Tried(pair(kinds["L40S-TP2"], 1, kinds["A10G-TP1"], 1), BAD)]
    plan.strains = [Weakness("+20 % load", Tried(answer.fleet, BAD, 1.2))]
    return page_of(plan)


def plots_in(page: str) -> dict[str, dict[str, list[dict[str, list[float]]]]]:
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    read = json.loads(found.group(1))
    assert isinstance(read, dict)
    return read


def test_the_answer_the_strains_and_what_it_rests_on_are_there(page: str) -> None:
    for words in ("2 mixed L40S-TP1", "+20 % load", "Pareto front", "derived, not measured"):
        assert words in page
    assert "requests queue 3.0 s on average" in page
    assert "TTFT ≤ 1 s" in page


def test_every_fleet_tried_is_a_point_of_each_plot(page: str) -> None:
    plots = plots_in(page)
    assert set(plots) == {"front", "search"}
    met, missed, front = plots["front"]["data"]
    assert (met["x"], met["y"]) == ([3.6], [0.7])
    assert len(missed["x"]) == 2
    assert front["x"] == sorted(front["x"])
    assert sorted(x for trace in plots["search"]["data"] for x in trace["x"]) == [1, 2, 3]
    for name in plots:
        assert f'<div id="{name}"></div>' in page


def test_it_asks_the_network_for_nothing(page: str) -> None:
    own = page.split("<script>", maxsplit=1)[0]
    assert not re.findall(r'(?:src|href)="(?!data:)', own)


@needs_chromium
def test_chromium_draws_every_plot_without_a_word_on_its_console(page: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    path.write_text(page)
    dom, console = opened(path, tmp_path / "profile")
    assert console == ""
    assert 'data-drawn="2"' in dom
    for plot in plots_in(page):
        assert drawn(dom, plot), plot
