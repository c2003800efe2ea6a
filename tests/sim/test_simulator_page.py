"""docs/simulator.md: its examples run as they are printed, and it names what there is."""

import re
import shutil
from pathlib import Path

import pytest
from splitweave import sim
from splitweave.sim.results.files import File
from splitweave.sim.results.perfetto import REQUESTS_MAX
from splitweave.sim.results.sampler import SAMPLES_MAX

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "simulator.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_python_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/simulator.md", "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out
    assert "SLO attainment" in printed
    assert "$14.28/h" in printed  # three H100 of the catalogue
    assert (tmp_path / "base" / "requests.csv").is_file()


def test_the_page_names_every_file_and_limit() -> None:
    assert len(BLOCKS) == 7
    for file in File:
        assert f"`{file}`" in PAGE
    assert f"At most {SAMPLES_MAX} samples" in PAGE
    assert REQUESTS_MAX == 2_000
    assert "first two thousand" in PAGE


def test_what_the_page_imports_is_offered_by_the_package() -> None:
    for name in ("simulate", "read_results", "write", "comparison", "write_all", "Results"):
        assert name in sim.__all__
        assert getattr(sim, name) is not None
