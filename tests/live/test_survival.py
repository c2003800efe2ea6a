"""What dies, and who does not notice: the controller, drained workers, all of it at once."""

import asyncio
import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from splitweave.benchmarks.survival import chaos_run
from splitweave.benchmarks.survival.asks import Mix, draw_asks
from splitweave.benchmarks.survival.chaos_run import Chaos, disturbed, undisturbed
from splitweave.benchmarks.survival.faults import Kind
from splitweave.benchmarks.survival.journal import Journal
from splitweave.client import Client, RetryPolicy, Stream
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, ControllerConfig, PoolConfig, RayConfig
from splitweave.proto.views import Role

PROMPT = "List the months of the year, one by one, and say what each is like. " * 4
WAIT_S = 200.0
OPTIONS: dict[str, Any] = {"max_tokens": 200, "ignore_eos": True}


def _workers(client: Client) -> dict[str, tuple[int, str]]:
    return {w.worker_id: (w.incarnation, w.state) for w in client.status().workers}


def test_tokens_flow_while_the_controller_is_away(cluster: LiveCluster) -> None:
    """However long it is away: the stream has no end of its own."""
    controller = cluster.actors.controller
    killed = ray.get(controller.pid.remote(), timeout=WAIT_S)
    patient = RetryPolicy(tries_max=1_000, backoff_max_s=0.5)
    with Client(cluster.address, timeout_s=WAIT_S, retry=patient) as client:
        options = {"ignore_eos": True}
        with client.stream(PROMPT, max_tokens=6_000, **options) as stream:
            tokens = _read(stream, 8)
            os.kill(killed, signal.SIGKILL)
            before = len(tokens)
            back = threading.Thread(target=client.status)  # the next one's, there is no other
            back.start()
            while back.is_alive():
                tokens += _read(stream, 1)
            assert len(tokens) > before
            tokens += _read(stream, 20)
        reference = client.generate(PROMPT, max_tokens=len(tokens), **options).token_ids
        assert tuple(tokens) == reference
        assert ray.get(controller.pid.remote(), timeout=WAIT_S) != killed
        deadline = time.monotonic() + WAIT_S
        while {state for _, state in _workers(client).values()} != {"alive"}:
            assert time.monotonic() < deadline, _workers(client)
            time.sleep(0.1)


def _read(stream: Stream, count: int) -> list[int]:
    """The ids of the next tokens, at least so many."""
    tokens: list[int] = []
    while len(tokens) < count:
        tokens += [token.token_id for token in next(stream).tokens]
    return tokens


def test_a_drained_worker_comes_back_and_its_stream_goes_on(client: Client) -> None:
    reference = client.generate(PROMPT, **OPTIONS).token_ids
    with client.stream(PROMPT, **OPTIONS) as stream:
        for _ in range(8):
            next(stream)
        running = next(r for r in client.status().requests if r.request_id == stream.request_id)
        before = _workers(client)[running.worker_id][0]
        reports = list(
            client.drain_workers(worker_id=running.worker_id, deadline_s=WAIT_S, restart=True)
        )
        result = stream.result
    [last] = reports[-1].workers
    assert (last.state, last.left, last.moved, last.recomputed) == ("restarted", 0, 1, 0)
    assert last.transfer_bytes > 0
    assert result.token_ids == reference
    assert result.accounting.migrations == 1
    incarnation, state = _workers(client)[running.worker_id]
    assert incarnation > before
    assert state == "alive"


def test_a_short_chaos_costs_no_stream_and_leaves_nothing(
    cluster: LiveCluster,
    config: ClusterConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del cluster  # its Ray is ours too
    monkeypatch.setattr(chaos_run, "REST_S", WAIT_S)
    pools = [
        PoolConfig(name=name, role=role, count=2, cpus=0.1, blocks=256)
        for name, role in (("prefill", Role.PREFILL), ("decode", Role.DECODE))
    ]
    beside = LiveCluster.start_beside(
        dataclasses.replace(
            config,
            pools=pools,
            ray=RayConfig(address="local", namespace="splitweave-chaos"),
            record="",
            controller=ControllerConfig(),  # as quick to give a worker up as in earnest
        )
    )
    chaos = Chaos(
        asks=draw_asks(20, Mix(prompt_tokens=(32, 256), output_tokens=(16, 32)), seed=2),
        together=3,
        kinds=(Kind.KILL_WORKER, Kind.KILL_CONTROLLER, Kind.FREEZE_WORKER),
        every_s=6.0,
        seed=2,
    )
    journal = Journal(tmp_path / "chaos.jsonl")
    try:
        known = undisturbed(beside, chaos, _ignore)
        outcome = asyncio.run(disturbed(beside, chaos, known, journal, _ignore))
    finally:
        journal.close()
        beside.stop()
    assert [(s.outcome, s.error) for s in outcome.streams if s.outcome != "done"] == []
    assert outcome.recoveries
    assert outcome.leftovers == []


def _ignore(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""
