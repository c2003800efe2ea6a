"""Makes the parties of a world: a core, its shell, and for a worker its engine."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..proto.effects import AnswerAsk
from ..proto.ids import GatewayId, WorkerKey
from ..proto.views import WorkerInfo
from ..workers.core.leaping import LeapingCore
from .clients import Clients
from .clock import NS_PER_S, Scheduler
from .content import BlockContent
from .cores import CoreBuilder
from .costs.build import cost_model, first_speed, power_model, slowdown_of
from .costs.meter import Meter
from .engine import Engine, Peers
from .fast_forward import Due, FastForward
from .host_memory import HostMemory
from .invariants import Watched, check_step
from .links import Links
from .local_clock import draw_clock
from .mail import Mail
from .observer import Observer
from .parties import ControllerParty, GatewayParty, Pools, WorkerParty
from .queue import EventQueue
from .scenario import PoolSpec, Scenario
from .shared_node import shared_nodes
from .shell import Perform, QueueShell, Shell, Step, Watch
from .transcript import Transcript

Open = Callable[[Step, Perform, Watch | None], Shell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How closely a run is followed."""

    transcript: Transcript | None = None
    checked: bool = False
    observer: Observer | None = None
    sampled: bool = False  # look at every worker from time to time

    @property
    def nobody(self) -> bool:
        """Whether no single step is looked at."""
        return not (self.transcript or self.checked or self.observer)


class Maker:
    """Everything that is the same for all parties of one world."""

    def __init__(
        self,
        scenario: Scenario,
        builder: CoreBuilder,
        watching: Watching,
        scheduler: Scheduler,
        open_shell: Open,
    ) -> None:
        self._scenario = scenario
        self._model = scenario.model
        self._block_tokens = scenario.block_tokens
        self._builder = builder
        self._watching = watching
        self._observer = watching.observer
        self._scheduler = scheduler
        self._open_shell = open_shell
        self._pools = {pool.name: pool for pool in scenario.pools}
        unseen = scenario.calm and watching.nobody and isinstance(scheduler, EventQueue)
        usual = type(builder).worker is CoreBuilder.worker  # others' cores are stepped
        slowdowns = {name: slowdown_of(spec) for name, spec in scenario.hardware.items()}
        self._nodes = shared_nodes(scenario, slowdowns, scheduler)
        alone = not self._nodes.shared  # beside others, an iteration's end is not foreseen
        self._fast = scenario.fast_forward and unseen and usual and alone
        self._costs = {name: cost_model(h, scenario.model) for name, h in scenario.hardware.items()}
        self._powers = {name: power_model(spec) for name, spec in scenario.hardware.items()}

    def described(self) -> list[str]:
        """Where every pool's block count and every iteration time come from."""
        blocks = []
        for pool in self._scenario.pools:
            counted = self._scenario.blocks_of(pool)
            blocks.append(f"{pool.name}: {counted.count} KV blocks per worker, {counted.origin}")
        costs = [f"{name}: {line}" for name in self._costs for line in self._costs[name].describe()]
        return blocks + costs + self._nodes.describe()

    def controller(
        self,
        name: str,
        mail: Mail,
        pools: Pools,
        answer: Callable[[AnswerAsk], None],
    ) -> ControllerParty:
        """A controller that knows nothing."""
        party = ControllerParty(self._builder.cluster(), mail, pools, answer)
        step = party.core.step if self._observer is None else self._observer.controller(party.core)
        party.shell = self._shell(Watched(name, party.core), step, party.perform)
        return party

    def gateway(
        self, gateway_id: GatewayId, name: str, mail: Mail, clients: Clients
    ) -> GatewayParty:
        """A gateway without streams."""
        core = self._builder.gateway(gateway_id)
        party = GatewayParty(gateway_id, core, mail, clients, self._scheduler)
        step = core.step if self._observer is None else self._observer.gateway(core)
        party.shell = self._shell(Watched(name, core), step, party.perform)
        return party

    def worker(
        self, key: WorkerKey, pool: PoolSpec, mail: Mail, peers: Peers, links: Links
    ) -> WorkerParty:
        """A new life of a worker, its memory empty."""
        info = self._info(key, pool)
        content = None
        if self._watching.checked:
            content = BlockContent(info.blocks_total, info.block_tokens, self._model.layers)
        engine = Engine(info, self._model.layers, self._costs[pool.hardware], content, peers)
        engine.shared = self._nodes.shared.get(key.worker_id)
        if (power := self._powers[pool.hardware]) is not None:
            engine.meter = Meter(power)
        host = HostMemory(info.block_bytes, pool.host_gbytes_per_s * 1e9, content, pool.host_blocks)
        make = self._builder.leaping_worker if self._fast else self._builder.worker
        core = make(info)
        party = WorkerParty(info, core, engine, host, mail)
        step = core.step if self._observer is None else self._observer.worker(core)
        party.shell = self._shell(Watched(str(key), core, engine.inbound), step, party.perform)
        run = party.shell.run if isinstance(party.shell, QueueShell) else _run_now
        engine.connect(self._scheduler, links, party.shell.post, run)
        if self._fast:
            self._run_ahead(party, peers)
        host.connect(self._scheduler, party.shell.post)
        return party

    def _run_ahead(self, party: WorkerParty, due: Due) -> None:
        core, shell = party.core, party.shell
        assert isinstance(core, LeapingCore)
        assert isinstance(shell, QueueShell)
        cost = self._costs[self._pools[party.info.pool].hardware]
        tell_ns = self._builder.gateway_limits.stall_ns // 4
        party.engine.fast = FastForward(core, cost, due, self._scheduler, tell_ns)
        party.engine.fast.perform = shell.perform
        party.engine.fast.meter = party.engine.meter
        shell.ahead = party.engine.fast

    def _info(self, key: WorkerKey, pool: PoolSpec) -> WorkerInfo:
        block_bytes = int(self._model.decoder().kv_token_bytes * self._block_tokens)
        restore_block_ns = block_bytes * NS_PER_S / (pool.host_gbytes_per_s * 1e9)
        return WorkerInfo(
            key=key,
            role=pool.role,
            pool=pool.name,
            node=key.worker_id,
            pid=key.incarnation,
            host=key.worker_id,
            port=1,
            blocks_total=self._scenario.blocks_of(pool).count,
            block_tokens=self._block_tokens,
            block_bytes=block_bytes,
            context_tokens_max=self._model.context_tokens_max,
            speed=replace(
                first_speed(self._costs[pool.hardware]), restore_block_ns=restore_block_ns
            ),
            host_blocks=pool.host_blocks,
        )

    def _shell(self, watched: Watched, step: Step, perform: Perform) -> Shell:
        shell = self._open_shell(step, perform, self._watch(watched))
        if isinstance(shell, QueueShell):
            faults = self._scenario.faults
            shell.set_clock(
                draw_clock(
                    watched.name, self._scenario.seed, faults.clock_offset_s, faults.clock_drift
                )
            )
        return shell

    def _watch(self, watched: Watched) -> Watch | None:
        transcript, checked = self._watching.transcript, self._watching.checked
        if not checked and transcript is None:
            return None

        def watch(now_ns: int, event: Any, effects: Any) -> None:
            if transcript is not None:
                transcript.record(watched.name, now_ns, event, effects)
            if checked:
                check_step(watched, now_ns, event, effects)

        return watch


def _run_now(action: Any, argument: Any) -> None:
    action(argument)
