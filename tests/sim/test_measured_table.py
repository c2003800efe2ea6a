"""Measured tables of whole iterations: what is read, what is interpolated, what is refused."""

from pathlib import Path

import pytest
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.grid import Beyond
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.costs.work import Prefill, Work

HEAD = """# engine = ours
# version = 0.1
# kernel = torch
# device = two cores
# model = small
# date = 2026-11-21
prefill_tokens,prefill_context,decodes,decode_context,time_us
"""
PREFILL = "100,0,0,0,1000\n200,0,0,0,2000\n100,400,0,0,1400\n200,400,0,0,2800\n"
DECODE = "0,0,1,100,500\n0,0,1,500,540\n0,0,9,100,900\n0,0,9,500,1260\n"


def table(tmp_path: Path, rows: str, **given: object) -> MeasuredTable:
    path = tmp_path / "t.csv"
    path.write_text(HEAD + rows)
    return MeasuredTable(path, **given)  # type: ignore[arg-type]


def prefill(*chunks: tuple[int, int]) -> Work:
    return Work(prefills=tuple(Prefill(*chunk) for chunk in chunks))


def decodes(count: int, keys: int) -> Work:
    return Work(decodes=count, decode_keys=count * keys, longest=keys, draws=count)


@pytest.mark.parametrize(
    ("work", "us"),
    [
        (prefill((100, 0)), 1000),
        (prefill((150, 0)), 1500),
        (prefill((100, 200)), 1200),
        (decodes(1, 100), 500),
        (decodes(5, 300), 800),
        (decodes(9, 500), 1260),
    ],
)
def test_it_says_what_was_measured_and_goes_straight_between(
    tmp_path: Path, work: Work, us: int
) -> None:
    assert table(tmp_path, PREFILL + DECODE).work_ns(work) == us * 1000


def test_two_prompts_are_one_of_their_length_without_more_context(tmp_path: Path) -> None:
    measured = table(tmp_path, PREFILL)
    assert measured.work_ns(prefill((75, 0), (75, 0))) == 1_500_000


def test_a_mixed_iteration_is_the_prefill_of_all_rows_and_the_decodes_attention(
    tmp_path: Path,
) -> None:
    measured = table(tmp_path, PREFILL + DECODE)
    mixed = Work((Prefill(141, 0),), 9, 9 * 500, 500, 10)
    assert measured.work_ns(mixed) == (1500 + 1260 - 900) * 1000
    assert "no mixed rows: mixed iterations are a sum" in measured.describe()[1]


def test_mixed_rows_scale_what_is_mixed_and_their_error_is_said(tmp_path: Path) -> None:
    measured = table(tmp_path, PREFILL + DECODE + "141,0,9,500,2046\n141,0,9,100,1650\n")
    assert measured.mixed == pytest.approx(1.1)
    assert measured.mixed_error == pytest.approx(0, abs=1e-9)
    assert "mixed x 1.100, median error of mixed rows 0.0%" in measured.describe()[1]
    assert measured.work_ns(prefill((100, 0))) == 1_000_000


def test_provenance_is_said_and_asked_for(tmp_path: Path) -> None:
    said = table(tmp_path, PREFILL).describe()
    assert "engine ours, version 0.1, kernel torch, device two cores" in said[0]
    path = tmp_path / "anonymous.csv"
    path.write_text(HEAD.replace("# date = 2026-11-21\n", "") + PREFILL)
    with pytest.raises(CostError, match="missing provenance date: write `# date"):
        MeasuredTable(path)


def test_beyond_the_edge_it_says_so_or_refuses(tmp_path: Path) -> None:
    measured = table(tmp_path, PREFILL)
    assert measured.work_ns(prefill((300, 0))) == 3_000_000
    assert any("1 of 1 lookups beyond what was measured" in line for line in measured.describe())
    strict = table(tmp_path, PREFILL, beyond=Beyond.REFUSE)
    with pytest.raises(CostError, match="prefill_tokens 300 is beyond the last measured, 200"):
        strict.work_ns(prefill((300, 0)))


def test_overhead_is_added_to_every_iteration(tmp_path: Path) -> None:
    measured = table(tmp_path, PREFILL + DECODE, overhead_us=70.0)
    assert measured.work_ns(decodes(1, 100)) == 570_000
    assert "host + 70 us" in measured.describe()[0]


def test_a_kind_of_iteration_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="no rows for decode, and an iteration needs them"):
        table(tmp_path, PREFILL).work_ns(decodes(1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "no rows in it"),
        (HEAD.replace("time_us", "time") + PREFILL, "t.csv:7: missing column time_us"),
        (HEAD + "1,2,3\n", "t.csv:8: 3 columns, expected 5"),
        (HEAD + PREFILL + "1,0,0,0,fast\n", "t.csv:12: time_us is 'fast'; expected a number >= 0"),
        (HEAD + "-1,0,0,0,5\n", "t.csv:8: prefill_tokens is '-1'"),
        (HEAD + "1,0,0,0,nan\n", "t.csv:8: time_us is 'nan'"),
        (HEAD + "0,0,0,0,5\n", "a row has neither prefill_tokens nor decodes"),
        ("# engine\n" + PREFILL, "t.csv:1: expected `# key = value`"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(CostError) as caught:
        MeasuredTable(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="No such file"):
        MeasuredTable(tmp_path / "t.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(CostError, match="invalid UTF-8 at byte 0"):
        MeasuredTable(tmp_path / "b.csv")
