"""The results of a run: figures that add up, and survive a file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calm_worlds import calm_world
from pydantic import TypeAdapter
from sim_worlds import poisson, pool, scenario
from splitweave.proto.requests import RequestClass
from splitweave.sim.results import sampler as module
from splitweave.sim.results.api import simulate
from splitweave.sim.results.bill import bill_of
from splitweave.sim.results.curves import PERCENTS
from splitweave.sim.results.definitions import DEFINITIONS, said
from splitweave.sim.results.results import Results, ResultsError, read_results
from splitweave.sim.results.sampler import UNKNOWN, Series
from splitweave.sim.results.stages import STAGES, Band
from splitweave.sim.results.workers import _utilisation
from splitweave.sim.scenario import Scenario

H100 = {"kind": "device", "device": "H100", "tp": 2}


@pytest.fixture(name="ran", scope="module")
def _ran() -> Results:
    """60 requests, one prefill and one decode worker; long enough for many samples."""
    return simulate(scenario(workload=poisson(20, 60, 40, 30)), name="sixty")


def test_results_read_back_are_the_results(ran: Results, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(ran.as_json())
    for again in (read_results(file), read_results(tmp_path)):
        assert again == ran
        assert again.as_json() == ran.as_json()
        with pytest.raises(ResultsError, match="sixty: read from a file"):
            again.requests()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not the results of a simulation"),
        ("[]", "version (None) is not 1"),
        ('{"version": 7}', "version (7) is not 1: simulate it again"),
        ('{"version": 1, "name": 3}', "not the results"),
    ],
)
def test_a_file_that_is_not_results_is_refused_by_name(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ResultsError) as caught:
        read_results(file)
    assert "other.json: " in str(caught.value)
    assert says in str(caught.value)


def test_a_folder_without_results_says_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"results.json: No such file.*--out FOLDER"):
        read_results(tmp_path)


def test_the_stages_of_every_band_add_up_to_its_ttft(ran: Results) -> None:
    assert [band.label for band in ran.bands][:2] == ["all", "p0–p50"]
    assert ran.bands[0].requests == 60 == sum(band.requests for band in ran.bands[1:])
    for band in ran.bands:
        assert sum(band.stages_s.values()) == pytest.approx(band.ttft_s)
        assert tuple(band.stages_s) == STAGES
    assert ran.metrics.ttft is not None
    assert ran.bands[0].ttft_s == pytest.approx(ran.metrics.ttft.mean_s)
    assert all(one.ttft_s <= other.ttft_s for one, other in pairwise(ran.bands[1:]))


def test_transfers_are_of_requests_that_moved_and_mostly_hidden(ran: Results) -> None:
    assert ran.metrics.handoffs.committed == 60
    assert ran.spans.transfer is not None
    assert ran.spans.exposed is not None
    assert 0 < ran.spans.exposed.max_s < ran.spans.transfer.max_s
    alone = simulate(scenario(pools=[pool("m", "mixed")]))
    assert (alone.spans.transfer, alone.spans.exposed) == (None, None)


def test_quantiles_rise_and_end_where_the_metrics_say(ran: Results) -> None:
    metrics = ran.metrics
    for values, spread in (
        (ran.quantiles.ttft_s, metrics.ttft),
        (ran.quantiles.tpot_s, metrics.tpot),
        (ran.quantiles.e2e_s, metrics.e2e),
    ):
        assert spread is not None
        assert list(values) == sorted(values)
        at = dict(zip(PERCENTS, values, strict=True))
        assert (at[50], at[90], at[95], at[99], at[100]) == (
            spread.p50_s, spread.p90_s, spread.p95_s, spread.p99_s, spread.max_s
        )  # fmt: skip


def test_the_timeline_accounts_for_every_request_and_token(ran: Results) -> None:
    line, metrics = ran.timeline, ran.metrics
    assert line is not None
    slices = len(line.in_flight)
    assert slices * line.slice_s == pytest.approx(metrics.virtual_s)
    for rates, total in (
        (line.arrivals_per_s, metrics.requests),
        (line.ended_per_s, metrics.completed),
        (line.met_per_s, metrics.slo_met),
        (line.tokens_per_s, metrics.output_tokens),
    ):
        assert sum(rates) * line.slice_s == pytest.approx(total)
        assert min(rates) >= -1e-9
    assert line.in_flight[-1] == 0
    assert max(line.in_flight) > 0


def test_a_run_in_which_nobody_got_a_token_has_no_timeline() -> None:
    tight = {"cluster": {"queue_len_max": 1}, "worker": {"queue_len_max": 1}}
    given = scenario(pools=[pool("m", "mixed", blocks=1)], limits=tight)
    none = simulate(given)
    assert none.metrics.completed == 0
    assert (none.timeline, none.bands, none.quantiles.ttft_s) == (None, (), ())


def test_samples_are_of_every_worker_and_within_their_bounds(ran: Results) -> None:
    samples = ran.samples
    assert samples is not None
    assert [worker.worker_id for worker in samples.workers] == ["prefill-0", "decode-0"]
    assert samples.count > 10
    for worker in samples.workers:
        for share in (*worker.kv_occupancy, *worker.utilisation):
            assert share is not None
            assert 0 <= share <= 1
        assert len(worker.running) == len(worker.utilisation) == samples.count
    decode = samples.workers[1]
    assert max(value or 0 for value in decode.running) > 1
    assert max(value or 0 for value in decode.kv_occupancy) > 0.01


def test_a_long_run_has_a_bounded_number_of_samples_at_wider_distances(
    monkeypatch: pytest.MonkeyPatch, ran: Results
) -> None:
    monkeypatch.setattr(module, "SAMPLES_MAX", 8)
    short = simulate(scenario(workload=poisson(20, 60, 40, 30)))
    assert ran.samples is not None
    assert short.samples is not None
    assert short.samples.count < 8
    step = round(short.samples.period_s / ran.samples.period_s)
    assert step in (4, 8, 16)
    whole, few = ran.samples.workers[1], short.samples.workers[1]
    assert few.kv_occupancy == whole.kv_occupancy[step - 1 :: step][: len(few.kv_occupancy)]


def test_sampling_does_not_change_the_run(ran: Results) -> None:
    from splitweave.sim.metrics import measure
    from splitweave.sim.run import simulate as unsampled

    assert measure(unsampled(scenario(workload=poisson(20, 60, 40, 30)))) == ran.metrics


@pytest.mark.parametrize("seed", range(6))
def test_samples_and_files_are_the_same_in_jumps_and_step_by_step(seed: int) -> None:
    given = calm_world(seed)
    ahead, stepped = simulate(given), simulate(replace(given, fast_forward=False))
    assert ahead.samples == stepped.samples
    assert ahead.pools == stepped.pools
    assert replace(ahead, scenario=stepped.scenario) == stepped


def test_an_iteration_longer_than_a_sample_is_spread_over_what_it_takes() -> None:
    busy = [50, 350, 350, 350, UNKNOWN, 20, 20]
    empty = [0] * len(busy)
    series: Any = Series(
        running=empty, waiting=empty, blocks_used=empty, blocks_cached=empty,
        busy_ns=busy, preemptions=empty,
    )  # fmt: skip
    assert _utilisation(series, 100) == (0.5, 1.0, 1.0, 1.0, None, 0.2, 0.0)


def test_pools_are_summed_and_preemptions_counted() -> None:
    given = scenario(
        pools=[pool("m", "mixed", blocks=14)], workload=poisson(50, 20, 40, 60),
        limits={"worker": {"watermark_blocks": 0}},
    )  # fmt: skip
    (figures,) = simulate(given).pools
    assert (figures.name, figures.workers, figures.gpus, figures.blocks) == ("m", 1, None, 14)
    assert figures.preemptions > 0
    assert figures.batch_max is not None
    assert figures.batch_max > 1
    assert figures.kv_max is not None
    assert 0.5 < figures.kv_max <= 1
    assert figures.utilisation is not None
    assert 0.5 < figures.utilisation <= 1


def test_the_bill_is_the_catalogues_price_of_every_gpu(ran: Results) -> None:
    given = scenario(
        hardware={"a": H100, "b": {"kind": "device", "device": "A100-80G"}},
        pools=[pool("p", "prefill", count=3), pool("d", "decode", count=2, hardware="b")],
    )
    bill = bill_of(given, ran.metrics)
    assert bill.gpus == 3 * 2 + 2
    assert bill.dollars_per_hour == pytest.approx(6 * 4.76 + 2 * 2.21)
    spent = (6 * 4.76 + 2 * 2.21) * ran.metrics.virtual_s / 3600
    assert bill.dollars_per_million_tokens == pytest.approx(spent / (60 * 30) * 1e6)
    assert bill.goodput_per_gpu == pytest.approx(ran.metrics.goodput_per_s / 8)
    assert bill.slo_met_per_dollar == pytest.approx(ran.metrics.slo_met / spent)


def test_a_fleet_with_a_nameless_device_has_no_price(ran: Results) -> None:
    given = scenario(
        hardware={"a": H100, "b": {"kind": "affine", "iteration_us": 1, "token_us": 1}},
        pools=[pool("p", "prefill"), pool("d", "decode", hardware="b")],
    )
    bill = bill_of(given, ran.metrics)
    assert (bill.gpus, bill.dollars_per_hour, bill.goodput_per_gpu) == (None, None, None)
    assert bill.dollars_per_million_tokens is None


def test_cached_tokens_are_hits_of_the_prompt() -> None:
    shared = poisson(5, 10, 96, 9, shared_prefix_tokens=64, prefix_groups=1)
    cache = simulate(scenario(pools=[pool("m", "mixed")], workload=shared)).cache
    assert cache.hit_tokens > 0
    assert 0 < cache.hit_share < 1
    assert (cache.host_tokens, cache.peer_tokens) == (0, 0)


def test_every_term_is_defined_once_and_can_be_said() -> None:
    assert said("TTFT").startswith("TTFT: time to first token")
    assert said("TPOT", "ITL").count("\n") == 1
    assert "TTFT is no part" in DEFINITIONS["TPOT"]
    for stage in STAGES:
        assert stage in DEFINITIONS
    with pytest.raises(KeyError):
        said("PPOT")


# ---- the API


def test_a_scenario_may_be_a_path_or_tables_and_keys_may_be_changed(tmp_path: Path) -> None:
    tables = TypeAdapter(Scenario).dump_python(scenario(), mode="json")
    by_tables = simulate(tables)
    assert by_tables == simulate(scenario())
    other = simulate(tables, seed=9, slo={"ttft_s": 1e-9})
    assert other.scenario["seed"] == 9
    assert other.scenario["slo"] == {"ttft_s": 1e-9, "tpot_s": 0.2}  # the rest stays
    assert (by_tables.metrics.attainment, other.metrics.attainment) == (1.0, 0.0)
    assert simulate(scenario(), seed=9).metrics == simulate(tables, seed=9).metrics


def test_a_path_gives_the_run_its_name() -> None:
    examples = Path(__file__).resolve().parents[2] / "examples"
    ran = simulate(str(examples / "two_pools.toml"), workload={"requests": 5})
    assert (ran.name, ran.metrics.requests) == ("two_pools", 5)


def test_an_unknown_key_is_refused_by_name() -> None:
    from splitweave.sim.scenario import ConfigError

    with pytest.raises(ConfigError, match="unknown key sede"):
        simulate(scenario(), sede=3)


def test_requests_are_at_hand_in_order_of_arrival(ran: Results) -> None:
    rows: Iterator[Any] = ran.requests()
    times = [row.asked_ns for _, row in rows]
    assert times == sorted(times)
    assert len(times) == 60


def test_results_json_is_plain_and_names_what_it_is(ran: Results) -> None:
    plain = json.loads(ran.as_json())
    assert plain["version"] == 1
    assert plain["definitions"] == DEFINITIONS
    assert "outcome" not in plain
    assert plain["metrics"]["requests"] == 60
    assert plain["provenance"]
    assert not np.isnan(plain["metrics"]["ttft"]["p99_s"])


def test_classes_of_rows_are_named_by_their_place() -> None:
    given = scenario(classes={"interactive": 1.0})
    classes = {row.request_class for _, row in simulate(given).requests()}
    assert classes == {tuple(RequestClass).index(RequestClass.INTERACTIVE)}


def test_a_band_is_only_of_requests_that_there_are() -> None:
    three = simulate(scenario(workload=poisson(20, 3, 40, 9)))
    assert sum(band.requests for band in three.bands[1:]) == 3
    assert all(isinstance(band, Band) and band.requests for band in three.bands)
