"""splitwise-sim's rules on our queue: by hand, and where the data lies, to its own answers."""

from pathlib import Path

import pytest
from splitweave.benchmarks.truths.comparison import compare
from splitweave.benchmarks.truths.folders import data_folder
from splitweave.benchmarks.truths.splitwise import (
    Line,
    RightLookups,
    TheirLookups,
    Trace,
    read_trace,
    reported,
    right_table,
    table_text,
    their_table,
)
from splitweave.benchmarks.truths.splitwise_check import BOUNDS, RECORDED, Recorded
from splitweave.benchmarks.truths.splitwise_cluster import (
    Kind,
    MixedPool,
    ShortestQueue,
    Weights,
    jobs_of,
)
from splitweave.benchmarks.truths.splitwise_designs import (
    ISO_COST,
    ISO_POWER,
    Design,
    Lengths,
    Search,
    Slo,
)
from splitweave.benchmarks.truths.splitwise_machine import Job, Machine, Task
from splitweave.benchmarks.truths.splitwise_world import LeastTokens, Pool, replay
from splitweave.cluster.policy.placement import PlacementAsk
from splitweave.proto.ids import RequestId
from splitweave.proto.views import Role
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.costs.work import Work
from splitweave.sim.queue import EventQueue

DATA = data_folder()
with_data = pytest.mark.skipif(DATA is None, reason="shared/data is not beside the repository")
WEIGHTS = Weights(bytes=0.0, token_bytes=1.0)
KEY = {"request_id": RequestId("r"), "known_tokens": 9, "output_tokens_max": 9}


class Plain:
    """A prompt token takes 1 ms, a decode iteration 10 ms, a mixed one both."""

    context_matters = False

    def __init__(self, *, context_matters: bool = False) -> None:
        self.context_matters = context_matters
        self.asked: list[tuple[int, int]] = []

    def iteration_s(self, prompt_tokens: int, contexts: list[int]) -> float:
        self.asked.append((prompt_tokens, len(contexts)))
        return prompt_tokens / 1000 + (0.01 if contexts else 0.0)


def folder() -> Path:
    assert DATA is not None
    return DATA / "splitwise"


def shortest(rows: Trace, machines: int = 1, cost: Plain | None = None) -> list[Job]:
    kind = Kind(cost=cost or Plain(), count=machines, bytes_max=1e9)
    jobs = jobs_of(rows)
    ShortestQueue(EventQueue(), WEIGHTS, kind).run(jobs)
    return jobs


def test_a_request_alone_is_computed_and_then_decoded() -> None:
    cost = Plain()
    (job,) = shortest([(1.0, 100, 5)], cost=cost)
    assert job.first_s == pytest.approx(1.1)
    assert job.last_s == pytest.approx(1.1 + 4 * 0.01)
    assert cost.asked == [(100, 0), (0, 1)]  # decodes repeat until the batch changes


def test_a_prompt_joins_at_the_end_of_the_running_iteration() -> None:
    first, second = shortest([(0.0, 100, 50), (0.125, 40, 3)])
    assert second.first_s == pytest.approx(0.13 + 0.05)  # with the first one's decode beside it
    assert second.last_s == pytest.approx(0.18 + 0.02)
    assert first.last_s == pytest.approx(0.1 + 49 * 0.01 + 0.04)


def test_prompts_are_never_cut_and_a_full_iteration_leaves_the_next_one_waiting() -> None:
    jobs = shortest([(0.0, 3000, 2), (0.001, 1500, 2), (0.002, 600, 2)])
    assert [job.first_s for job in jobs] == pytest.approx([3.0, 3.0 + 1.51, 3.0 + 1.51 + 0.61])


def test_decodes_are_set_aside_for_a_prompt_that_fills_the_iteration() -> None:
    first, _ = shortest([(0.0, 100, 10), (0.115, 2048, 2)])
    assert first.last_s == pytest.approx(0.1 + 9 * 0.01 + 2.048)


def test_the_queue_with_least_tokens_gets_the_next() -> None:
    jobs = shortest([(0.0, 500, 2), (0.0, 100, 2), (0.001, 100, 2)], machines=2)
    assert [job.first_s for job in jobs] == pytest.approx([0.5, 0.1, 0.1 + 0.11], abs=0.02)


def test_memory_that_is_full_is_waited_for() -> None:
    queue = EventQueue()
    machine = Machine("m", queue, Plain(), 0.0, 250.0)
    jobs = jobs_of([(0.0, 100, 2), (0.0, 100, 2), (0.0, 100, 2)])
    for job in jobs:
        machine.take(Task(job, True, 1, 101.0))
        machine.take(Task(job, False, 1, 1.0))
    queue.run_until(10**10)
    assert jobs[1].first_s < jobs[2].first_s
    assert machine.bytes == 0
    assert machine.booked_tokens == -303  # nobody booked them here


def test_contexts_that_matter_are_looked_up_again() -> None:
    cost = Plain(context_matters=True)
    (job,) = shortest([(0.0, 100, 201)], cost=cost)
    assert job.last_s == pytest.approx(0.1 + 200 * 0.01)
    assert cost.asked.count((0, 1)) == 4  # every 64 iterations


def pool(rows: Trace, *, bytes_max: float = 1e9) -> tuple[list[Job], Plain, Plain]:
    prompt, token = Plain(), Plain()
    kinds = (
        Kind(cost=prompt, count=1, bytes_max=bytes_max),
        Kind(cost=token, count=1, bytes_max=bytes_max),
    )
    jobs = jobs_of(rows)
    MixedPool(EventQueue(), WEIGHTS, *kinds).run(jobs)
    return jobs, prompt, token


def test_prompts_and_decodes_are_on_their_own_machines() -> None:
    jobs, prompt, token = pool([(0.0, 100, 5), (0.15, 100, 5)])
    assert [job.first_s for job in jobs] == pytest.approx([0.1, 0.25])
    assert jobs[0].last_s == pytest.approx(0.14, abs=1e-6)
    assert all(decodes == 0 for _, decodes in prompt.asked)
    assert all(prompts == 0 for prompts, _ in token.asked)


def test_a_long_queue_gets_help_from_a_token_machine_until_it_is_idle() -> None:
    rows = [(0.001 * n, 3000, 3) for n in range(5)]
    _, _, token = pool(rows)
    assert (3000, 0) in token.asked
    later, _, quiet = pool([*rows, (60.0, 100, 3)])
    assert later[-1].first_s == pytest.approx(60.1)
    assert (100, 0) not in quiet.asked


def test_token_machines_without_room_get_help_from_a_prompt_machine() -> None:
    jobs, prompt, _ = pool([(0.0, 400, 300), (0.5, 400, 300)], bytes_max=1200)
    assert all(job.last_s for job in jobs)
    assert any(decodes for _, decodes in prompt.asked)


@with_data
@pytest.mark.parametrize("cluster", RECORDED, ids=lambda cluster: cluster.name)
def test_splitwise_sims_answers_are_reproduced(cluster: Recorded) -> None:
    found = cluster.by_rules(read_trace(folder()), TheirLookups(folder(), "h100-80gb"))
    lines = compare(reported(folder() / cluster.folder), found, BOUNDS)
    assert len(lines) == 12
    assert all(abs(line.error) < 1e-4 for line in lines)


@with_data
def test_what_splitwise_reported_is_in_the_order_of_the_trace() -> None:
    said = reported(folder() / RECORDED[0].folder)
    assert len(said["TTFT"]) == len(read_trace(folder())) == 8466
    assert reported(folder() / RECORDED[0].folder, 22)["TTFT"][17] == pytest.approx(
        0.40826, abs=1e-4
    )


@with_data
def test_right_lookups_say_what_was_measured_and_theirs_do_not(tmp_path: Path) -> None:
    right = RightLookups(folder(), "h100-80gb")
    assert right.iteration_s(0, [576] * 64) == pytest.approx(0.0638, rel=0.01)
    assert right.iteration_s(0, [576]) == pytest.approx(0.0361, rel=0.01)
    assert right.iteration_s(0, [8000] * 64) > 1.5 * right.iteration_s(0, [576] * 64)
    theirs = [row for row in their_table(folder(), "h100-80gb") if row[2] == 64 and not row[0]]
    assert theirs[0][4] == pytest.approx(35_500, rel=0.01)  # at its own table's 128 tokens
    path = tmp_path / "right.csv"
    path.write_text(table_text(right_table(folder(), "h100-80gb")))
    table = MeasuredTable(path)
    for count, context in ((1, 576), (32, 576), (64, 2000), (16, 9000)):
        said = table.work_ns(Work((), count, count * context, context, count)) / 1e9
        assert said == pytest.approx(right.iteration_s(0, [context] * count), rel=1e-3)


@with_data
def test_our_cores_serve_the_trace_with_their_lookups() -> None:
    rows = their_table(folder(), "h100-80gb")
    trace = read_trace(folder(), 60)
    pools = [
        Pool(role=Role.PREFILL, count=3, rows=rows), Pool(role=Role.DECODE, count=2, rows=rows)
    ]  # fmt: skip
    for theirs in (True, False):
        found = replay(trace, pools, theirs=theirs)
        assert [len(found[name]) for name in ("TTFT", "TBT", "E2E")] == [60, 60, 60]
        assert min(found["TBT"]) > 0.03


def test_the_policy_places_nothing_where_there_is_nobody() -> None:
    ask = PlacementAsk(**KEY, waited_ns=0, block_tokens=16)  # type: ignore[arg-type]
    assert LeastTokens().place(ask, [], 0) is None


def test_a_line_goes_on_by_its_outermost_points() -> None:
    line = Line({1.0: 10.0, 2.0: 30.0, 4.0: 40.0})
    assert [line.at(x) for x in (0.0, 1.5, 2.0, 3.0, 6.0)] == [-10, 20, 30, 35, 50]


def test_designs_are_as_in_the_paper() -> None:
    for sets in (ISO_POWER, ISO_COST):
        assert [design.name for design in sets["conv"]] == [d.name for d in sets["code"]]
    shapes = [design.shape for design in ISO_POWER["conv"]]
    assert shapes == ["70", "40", "45P25T", "25P15T", "25P26T", "25P21T"]
    weights = {"a100-80gb": 24.8, "h100-80gb": 44.0, "h100-80gb-pcap": 30.8}
    for design in ISO_POWER["conv"]:
        tokens = design.tokens * weights[design.token] if design.tokens else 0.0
        assert design.prompts * weights[design.prompt] + tokens == pytest.approx(1750, rel=0.015)
    for design in ISO_COST["conv"]:
        assert design.usd_per_h == pytest.approx(1523, rel=0.03)


@with_data
def test_requests_alone_on_a_dgx_a100_are_no_slower_than_alone() -> None:
    assert DATA is not None
    slo, trace = Slo(folder()), [(0.0, 512, 100), (50.0, 2048, 40)]
    alone = [slo._alone(prompt, output) for _, prompt, output in trace]
    times = {
        "TTFT": [a[0] for a in alone],
        "TBT": [a[1] for a in alone],
        "E2E": [a[2] for a in alone],
    }
    share, what = slo.worst(trace, times)
    assert (share, what) == (pytest.approx(1 / 1.25), "TBT p50")


@with_data
def test_a_capacity_is_found_by_halves_and_names_what_broke() -> None:
    assert DATA is not None
    lengths = Lengths(DATA / "azure" / "AzureLLMInferenceTrace_conv.csv")
    search = Search(lengths=lengths, slo=Slo(folder()), seconds=20, most=100, step=5)
    ticks: list[None] = []

    def holds_below_40(_design: Design, trace: Trace) -> dict[str, list[float]]:
        slow = 100.0 if len(trace) / 20 > 40 else 0.01
        return {name: [slow] * len(trace) for name in ("TTFT", "TBT", "E2E")}

    found = search.capacity(ISO_POWER["conv"][0], holds_below_40, lambda: ticks.append(None))
    assert found.rate_per_s == pytest.approx(40, abs=6)
    assert found.broken.startswith(("TTFT", "TBT", "E2E"))
    assert len(ticks) == search.runs
    assert lengths.trace(10, 20, 1) == lengths.trace(10, 20, 1) != lengths.trace(10, 20, 2)
