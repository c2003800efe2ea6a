"""How a workload's stream comes into a world: one arrival at a time, to its very end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sim_worlds import poisson, scenario, source, world_of
from splitweave.sim import cli
from splitweave.sim.errors import TraceError
from splitweave.sim.run import Run, simulate
from splitweave.sim.workloads.arrivals import Arrival, Segment

S = 1_000_000_000
ROW = '{"at_s": %s, "prompt_tokens": 30, "output_tokens": 3}\n'


def _trace(tmp_path: Path, seconds: list[float], more: str = "", **keys: Any) -> dict[str, Any]:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(ROW % at_s for at_s in seconds) + more)
    return {"kind": "trace", "format": "splitweave", "path": str(path), **keys}


class _Counted:
    """A workload that counts how far it has been read."""

    def __init__(self, count: int) -> None:
        self.requests = None
        self.read = 0
        self._count = count

    def __iter__(self) -> Iterator[Arrival]:
        for second in range(self._count):
            self.read += 1
            segments = (Segment(f"own/{second}", 20),)
            yield Arrival(at_ns=second * S, segments=segments, output_tokens=2)


def test_only_the_next_arrival_is_read_ahead() -> None:
    world, _, queue = world_of(scenario(), checked=False)
    workload = _Counted(100)
    Run(world, workload)
    queue.run_until(9 * S + S // 2)
    assert workload.read == 11


def test_a_calm_run_reads_its_workload_once_and_one_with_faults_twice() -> None:
    for faults, times in (({}, 1), ({"until_s": 1.0, "cancels": 0.5}, 2)):
        workload = _Counted(5)
        world, _, _ = world_of(scenario(faults=faults))
        Run(world, workload)
        assert workload.read == 1 + 5 * (times - 1)


def test_the_total_of_a_trace_is_told_when_its_end_is_known(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    given = scenario(workload=_trace(tmp_path, [0, 1, 2, 3]))
    simulate(given, progress=lambda *now: seen.append(now))
    assert seen[0] == (0, None) or seen[0] == (1, None)
    assert seen[-1] == (4, 4)


def test_a_bad_line_ends_the_run_when_it_is_come_to(tmp_path: Path) -> None:
    table = _trace(tmp_path, [float(n) for n in range(5000)], "{broken\n")
    with pytest.raises(TraceError, match=r"trace\.jsonl:5001: not JSON"):
        simulate(scenario(workload=table | {"speedup": 100.0}))
    outcome = simulate(scenario(workload=table | {"requests": 20}))
    assert len(outcome.world.clients.streams) == 20


def test_a_trace_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    table = _trace(tmp_path, [0.0, 1.0], from_s=50.0)
    with pytest.raises(TraceError, match=r"no requests: nothing is left of it after its cuts"):
        simulate(scenario(workload=table))


def test_the_command_line_names_a_bad_line_and_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = _trace(tmp_path, [0.0, 1.0], ROW.replace("30", "-30") % 2.0)
    path = tmp_path / "scenario.toml"
    path.write_text(
        '[hardware.a]\nkind = "affine"\niteration_us = 5000\ntoken_us = 20\n'
        '[[pools]]\nname = "m"\nrole = "mixed"\nhardware = "a"\nblocks = 200\n'
        f'[workload]\nkind = "trace"\nformat = "splitweave"\npath = "{table["path"]}"\n'
    )
    assert cli.run(path) == 2
    shown = capsys.readouterr().err.replace("\n", "")
    assert "trace.jsonl:3: prompt_tokens is -30; expected a whole number >= 1" in shown


def test_a_trace_is_cut_then_scaled(tmp_path: Path) -> None:
    table = _trace(tmp_path, [float(n) for n in range(5, 105)])  # the first stands at 0
    cut = table | {"from_s": 20.0, "until_s": 40.0, "requests": 10, "speedup": 4.0}
    assert [a.at_ns for a in source(cut)] == [n * S // 4 for n in range(10)]
    assert source(cut).requests is None
    paced = list(source(table | {"from_s": 20.0, "rate_per_s": 8.0}))
    assert [a.at_ns for a in paced] == [n * S // 8 for n in range(80)]
    still = list(source(_trace(tmp_path, [3.0, 3.0]) | {"rate_per_s": 8.0}))
    assert [a.at_ns for a in still] == [0, 0]


def test_a_batch_is_served_whole_and_within_its_time_or_told() -> None:
    batch = {k: v for k, v in poisson(1, 40, 60, 20).items() if k != "rate_per_s"}
    given = scenario(workload=batch | {"kind": "batch", "at_s": 1.0})
    streams = simulate(given).world.clients.streams.values()
    assert all(stream.finish is not None and stream.asked_ns == S for stream in streams)
    hurried = scenario(workload=batch | {"kind": "batch", "within_s": 0.3, "requests": 200})
    streams = simulate(hurried).world.clients.streams.values()
    late = [stream for stream in streams if stream.error is not None]
    assert 0 < len(late) < 200
    assert all(str(stream.error) == "DEADLINE_EXCEEDED" for stream in late)
