"""Two runs side by side: every figure, its ratio, and what was different."""

from pathlib import Path

import pytest
from sim_worlds import scenario
from splitweave.sim import cli
from splitweave.sim.results.api import simulate
from splitweave.sim.results.compare import comparison, differing, names_of
from splitweave.sim.results.files import File, write
from splitweave.sim.results.results import Results


@pytest.fixture(name="pair", scope="module")
def _pair() -> tuple[Results, Results]:
    slow = {"a": {"kind": "affine", "iteration_us": 10_000, "token_us": 40}}
    return simulate(scenario(), name="fast"), simulate(scenario(hardware=slow), name="slow")


def test_every_figure_stands_beside_the_other_runs_with_its_ratio(
    pair: tuple[Results, Results],
) -> None:
    table = comparison(pair)
    assert table.columns == ("", "fast", "slow", "slow / fast")
    rows = {row[0]: row[1:] for row in table.rows}
    fast, slow = (run.metrics.tpot for run in pair)
    assert fast is not None
    assert slow is not None
    assert rows["TPOT p90, s"] == [
        f"{fast.p90_s:.4g}", f"{slow.p90_s:.4g}", f"{slow.p90_s / fast.p90_s:.3f}",
    ]  # fmt: skip
    assert float(rows["TPOT p90, s"][2]) == pytest.approx(2, rel=0.05)
    assert rows["requests"] == ["25", "25", "1.000"]
    assert rows["SLO attainment"][:2] == ["100.0%", "100.0%"]
    assert "$/h" not in rows  # neither has a price
    assert rows["migrations"] == ["0", "0", "–"]  # no ratio to nothing


def test_only_what_differs_between_the_scenarios_is_named(pair: tuple[Results, Results]) -> None:
    assert differing(pair).rows == [
        ("hardware.a.iteration_us", "5000.0", "10000.0"),
        ("hardware.a.token_us", "20.0", "40.0"),
    ]
    assert differing((pair[0], pair[0])).rows == []


def test_runs_of_one_name_are_told_apart(pair: tuple[Results, Results]) -> None:
    fast, slow = pair
    assert names_of([fast, slow, fast]) == ["fast (1)", "slow", "fast (3)"]


def test_more_than_two_are_compared_with_the_first(pair: tuple[Results, Results]) -> None:
    table = comparison([*pair, pair[1]])
    assert table.columns[-2:] == ("slow (2) / fast", "slow (3) / fast")


def test_compare_reads_folders_and_files_and_says_what_is_wrong(
    pair: tuple[Results, Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in pair:
        write(run, File.RESULTS, tmp_path / run.name / "results.json")
    assert cli.compare([tmp_path / "fast", tmp_path / "slow" / "results.json"]) == 0
    shown = capsys.readouterr().out
    for words in ("Side by side", "slow / fast", "TTFT p50, s", "hardware.a.token_us"):
        assert words in shown
    assert cli.compare([tmp_path / "fast", tmp_path / "none"]) == 2
    assert "none: No such file" in capsys.readouterr().err


def test_a_comparison_is_written_as_a_page(
    pair: tuple[Results, Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly")
    for run in pair:
        write(run, File.RESULTS, tmp_path / run.name / "results.json")
    page = tmp_path / "deep" / "side.html"
    assert cli.compare([tmp_path / "fast", tmp_path / "slow"], html=page) == 0
    assert f"wrote {page}" in capsys.readouterr().out
    assert "fast against slow" in page.read_text()
