"""What a measured table, or a scenario, says of workers that share a machine."""

from pathlib import Path

import pytest
from sim_worlds import scenario
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.costs.build import slowdown_of
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.slowdown import Kind, given_slowdown, kind_of, read_slowdown
from splitweave.sim.costs.specs import AffineSpec, RooflineSpec, TableSpec
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
PREFILL = "100,0,0,0,1000\n200,0,0,0,2000\n"
PAIRS = [(kind, other) for kind in Kind for other in Kind]


def table(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{line}\n" for line in lines) + HEAD + PREFILL)
    return path


def factors(path: Path, beside: int = 1) -> list[float]:
    """Of prefill and decode, each beside so many prefills, then decodes."""
    slowdown = read_slowdown(path)
    assert slowdown is not None
    return [round(slowdown.factor(kind, [other] * beside), 6) for kind, other in PAIRS]


def test_a_table_may_say_nothing(tmp_path: Path) -> None:
    path = table(tmp_path)
    assert read_slowdown(path) is None
    assert slowdown_of(TableSpec(kind="table", path=str(path))) is None


def test_one_factor_is_for_every_kind(tmp_path: Path) -> None:
    path = table(tmp_path, "# slowdown = 1.25 beside 1")
    assert factors(path) == [1.25] * 4
    assert factors(path, beside=3) == [1.75] * 4
    assert MeasuredTable(path).work_ns(Work(prefills=(Prefill(100, 0),))) == 1_000_000


def test_each_of_many_neighbours_adds_its_share(tmp_path: Path) -> None:
    path = table(tmp_path, "# slowdown = 1.9 beside 3")
    assert factors(path) == [1.3] * 4
    assert factors(path, beside=3) == [1.9] * 4


def test_kinds_may_differ_and_the_neighbours_too(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "# slowdown prefill = 1.4 beside 1 prefill, 1.1 beside 1 decode",
        "# slowdown decode = 1.2 beside 1",
    )
    assert factors(path) == [1.4, 1.1, 1.2, 1.2]
    slowdown = read_slowdown(path)
    assert slowdown is not None
    both = slowdown.factor(Kind.PREFILL, [Kind.PREFILL, Kind.DECODE])
    assert both == pytest.approx(1.5)
    assert slowdown.factor(Kind.PREFILL, []) == 1.0
    assert slowdown.describe() == (
        "slowdown beside one more worker: prefill 1.4 (prefill), 1.1 (decode); "
        "decode 1.2 (prefill), 1.2 (decode)"
    )


@pytest.mark.parametrize(
    "text", ["fast", "0.9 beside 1", "1.2 beside 0", "1.2", "1.2 beside 1 mixed", "1.2 beside 1,"]
)
def test_what_cannot_be_read_is_refused_by_file_and_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(CostError, match=r"t\.csv: slowdown is .*expected `FACTOR beside N`"):
        read_slowdown(table(tmp_path, f"# slowdown = {text}"))


def test_the_scenarios_word_is_in_the_place_of_the_tables(tmp_path: Path) -> None:
    path = str(table(tmp_path, "# slowdown = 1.25 beside 1"))
    spec = TableSpec(kind="table", path=path, slowdown=2.0)
    assert slowdown_of(spec) == given_slowdown(2.0)
    assert slowdown_of(TableSpec(kind="table", path=path)) == given_slowdown(1.25)


def test_other_hardware_may_be_given_one_and_has_none_else() -> None:
    affine = AffineSpec(kind="affine", iteration_us=1.0, token_us=1.0, slowdown=1.5)
    assert slowdown_of(affine) == given_slowdown(1.5)
    assert slowdown_of(AffineSpec(kind="affine", iteration_us=1.0, token_us=1.0)) is None
    assert slowdown_of(RooflineSpec(kind="roofline", tflops_per_s=1, gbytes_per_s=1)) is None


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"slowdown"):
        scenario(
            hardware={"a": {"kind": "affine", "iteration_us": 1, "token_us": 1, "slowdown": 0.5}}
        )


def test_any_prefill_makes_an_iteration_a_prefill() -> None:
    assert kind_of(Work(decodes=3, decode_keys=9)) is Kind.DECODE
    assert kind_of(Work(prefills=(Prefill(2, 0),), decodes=3, decode_keys=9)) is Kind.PREFILL
