"""A world: a controller, gateways, workers and clients on virtual time.

Everything that decides is a core of the live system; the world performs their
effects. It can be hurt from outside (`kill_worker`, `freeze_worker`, …) and
healed; `faults.py` says what happens when, `campaign.py` what must hold after.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..proto.cluster_events import ClusterStarted, WorkerLost
from ..proto.effects import AnswerAsk, RetireWorker
from ..proto.gateway_events import ClientGone, GenerateAsked
from ..proto.ids import GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from ..proto.views import Speed, WorkerInfo
from ..proto.worker_events import ViewAsked, WorkerStarted
from .arrivals import Arrival, PromptMaker
from .clients import Clients
from .clock import Scheduler, to_ns
from .content import BlockContent
from .cores import CoreBuilder
from .engine import Engine
from .hardware import cost_model, first_speed
from .invariants import Watched, check_step
from .links import Links, LinkSpec
from .mail import Mail
from .network import Network
from .parties import CONTROLLER, ControllerParty, GatewayParty, WorkerParty
from .queue import EventQueue
from .scenario import PoolSpec, Scenario
from .shell import Perform, QueueShell, Shell, Step, Watch
from .streams import VOCAB, TrueStream
from .transcript import Transcript

RETIRED_DOWN_NS = 500_000_000
Open = Callable[[Step, Perform, Watch | None], Shell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How closely a run is followed."""

    transcript: Transcript | None = None
    checked: bool = False


class World:
    """All parties of one run. Two worlds in one process share nothing."""

    def __init__(
        self,
        scenario: Scenario,
        builder: CoreBuilder,
        watching: Watching,
        scheduler: Scheduler,
        open_shell: Open,
    ) -> None:
        self.scenario = scenario
        self.scheduler = scheduler
        self.clients = Clients(
            checked=watching.checked, context_tokens_max=scenario.model.context_tokens_max
        )
        self.links = Links(scenario.seed)
        network = scenario.network
        self.mail = Mail(
            Network(
                scheduler, int(network.latency_us * 1e3), int(network.jitter_us * 1e3),
                scenario.seed,
            )
        )  # fmt: skip
        self.answers: dict[str, AnswerAsk] = {}
        self.retired = 0
        self._builder = builder
        self._watching = watching
        self._open_shell = open_shell
        self._stop_token_ids = frozenset(range(round(VOCAB * scenario.stop_chance)))
        self._prompts = PromptMaker(scenario.seed, scenario.block_tokens, self._stop_token_ids)
        self._controllers = 0
        self._incarnations: dict[WorkerId, int] = {}
        self._pools: dict[WorkerId, PoolSpec] = {}
        self._dead: list[WorkerParty] = []
        self._costs = {name: cost_model(h, scenario.model) for name, h in scenario.hardware.items()}

    # ---- birth

    def start(self) -> None:
        """Controller, gateways and workers come up, now."""
        self.start_controller(None)
        for index in range(self.scenario.network.gateways):
            self._start_gateway(GatewayId(f"gateway.{index}"))
        for pool in self.scenario.pools:
            for index in range(pool.count):
                worker_id = WorkerId(f"{pool.name}-{index}")
                self._pools[worker_id] = pool
                spec = LinkSpec(
                    bytes_per_s=pool.link_gbytes_per_s * 1e9,
                    latency_ns=int(pool.link_latency_us * 1e3),
                )
                self.links.attach(worker_id, spec)
                self.start_worker(worker_id)

    def start_controller(self, _: None) -> None:
        """A new controller that knows nothing asks all workers to register."""
        if self.mail.controller is not None:
            return
        self._controllers += 1
        party = ControllerParty(self._builder.cluster(), self.mail, self._answered, self._retire)
        name = f"controller#{self._controllers}"
        party.shell = self._shell(Watched(name, party.core), party.perform)
        self.mail.controller = party
        party.shell.post(ClusterStarted())
        if self._controllers > 1:
            for worker in list(self.mail.workers.values()):
                self.mail.to_worker(CONTROLLER, worker.key, ViewAsked())

    def start_worker(self, worker_id: WorkerId) -> None:
        """A new incarnation comes up, if none lives."""
        if worker_id in self.mail.workers:
            return
        incarnation = self._incarnations.get(worker_id, 0) + 1
        self._incarnations[worker_id] = incarnation
        info = self._info(WorkerKey(worker_id, Incarnation(incarnation)))
        pool = self._pools[worker_id]
        layers = self.scenario.model.layers
        content = None
        if self._watching.checked:
            content = BlockContent(pool.blocks, info.block_tokens, layers)
        engine = Engine(info, layers, self._costs[pool.hardware], content, self)
        party = WorkerParty(info, self._builder.worker(info), engine, self.mail)
        party.shell = self._shell(Watched(str(info.key), party.core, engine.inbound), party.perform)
        run = party.shell.run if isinstance(party.shell, QueueShell) else _run_now
        engine.connect(self.scheduler, self.links, party.shell.post, run)
        self.mail.workers[worker_id] = party
        party.shell.post(WorkerStarted())

    def _start_gateway(self, gateway_id: GatewayId) -> None:
        core = self._builder.gateway(gateway_id)
        party = GatewayParty(gateway_id, core, self.mail, self.clients, self.scheduler)
        party.shell = self._shell(Watched(gateway_id, core), party.perform)
        self.mail.gateways[gateway_id] = party

    def _info(self, key: WorkerKey) -> WorkerInfo:
        pool, model = self._pools[key.worker_id], self.scenario.model
        token_bytes = model.shape().kv_token_bytes
        return WorkerInfo(
            key=key,
            role=pool.role,
            pool=pool.name,
            node=key.worker_id,
            pid=key.incarnation,
            host=key.worker_id,
            port=1,
            blocks_total=pool.blocks,
            block_tokens=self.scenario.block_tokens,
            block_bytes=token_bytes * self.scenario.block_tokens,
            context_tokens_max=model.context_tokens_max,
            speed=first_speed(self._costs[pool.hardware]),
        )

    def _shell(self, watched: Watched, perform: Perform) -> Shell:
        return self._open_shell(watched.core.step, perform, self._watch(watched))

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

    # ---- what engines ask

    def engine(self, key: WorkerKey) -> Engine | None:
        """That incarnation's engine, None if it is gone."""
        party = self.mail.living(key)
        return None if party is None else party.engine

    def stream(self, request_id: RequestId) -> TrueStream:
        """The true stream of a request."""
        return self.clients.truth(request_id)

    # ---- clients

    def arrive(self, index: int, arrival: Arrival) -> RequestId:
        """A client asks the next gateway in turn."""
        gateway_id = GatewayId(f"gateway.{index % self.scenario.network.gateways}")
        now_ns = self.scheduler.now_ns
        request = self._prompts.request(index, arrival, gateway_id, now_ns)
        self.clients.ask(request, now_ns)
        self.mail.gateways[gateway_id].shell.post(GenerateAsked(request=request))
        return request.request_id

    def hang_up(self, request_id: RequestId) -> None:
        """The client of a running request goes away; no error if it has ended."""
        if self.clients.hang_up(request_id):
            gateway_id = self.clients.streams[request_id].gateway_id
            self.mail.gateways[gateway_id].shell.post(ClientGone(request_id=request_id))

    def ask_controller(self, event: Any) -> None:
        """An operator asks through the first gateway."""
        self.mail.to_controller("gateway.0", event)

    # ---- harm

    def kill_worker(self, worker_id: WorkerId, noticed_ns: int, reason: str = "killed") -> None:
        """The process dies; the controller's shell notices `noticed_ns` later."""
        party = self.mail.workers.pop(worker_id, None)
        if party is None:
            return
        party.close()
        self._dead.append(party)
        lost = WorkerLost(key=party.key, reason=reason)
        self.scheduler.at(self.scheduler.now_ns + noticed_ns, self._notice, lost)

    def freeze_worker(self, worker_id: WorkerId) -> None:
        """The process stops: it is there, and silent."""
        party = self.mail.workers.get(worker_id)
        if party is not None and isinstance(party.shell, QueueShell):
            party.shell.freeze()

    def thaw_worker(self, key: WorkerKey) -> None:
        """It goes on with whatever came meanwhile; no error if it is gone."""
        party = self.mail.living(key)
        if party is not None and isinstance(party.shell, QueueShell):
            party.shell.thaw()

    def kill_controller(self) -> None:
        """The controller's process dies, with all it knew."""
        if self.mail.controller is not None:
            self.mail.controller.shell.close()
            self.mail.controller = None

    def heal(self) -> None:
        """End every fault: all links and messages good, everybody up and awake."""
        self.mail.network.heal()
        self.links.heal()
        self.start_controller(None)
        for worker in list(self.mail.workers.values()):
            self.thaw_worker(worker.key)
        for worker_id in self._pools:
            self.start_worker(worker_id)

    @property
    def worker_ids(self) -> list[WorkerId]:
        return list(self._pools)

    @property
    def asks_answered(self) -> int:
        return len(self.answers)

    def _notice(self, lost: WorkerLost) -> None:
        # The controller's own shell sees it: no network between.
        if self.mail.controller is not None:
            self.mail.controller.shell.post(lost)

    def _answered(self, answer: AnswerAsk) -> None:
        self.answers[answer.ask_id] = answer

    def _retire(self, effect: RetireWorker) -> None:
        """A drained worker's process ends; its pool starts another in its place."""
        if self.mail.living(effect.key) is None:
            return
        self.retired += 1
        self.scheduler.at(self.scheduler.now_ns + to_ns(0.01), self._end_retired, effect.key)

    def _end_retired(self, key: WorkerKey) -> None:
        if self.mail.living(key) is not None:
            self.kill_worker(key.worker_id, to_ns(0.01), "retired")
            at_ns = self.scheduler.now_ns + RETIRED_DOWN_NS
            self.scheduler.at(at_ns, self.start_worker, key.worker_id)


def _run_now(action: Any, argument: Any) -> None:
    action(argument)


def queue_world(scenario: Scenario, builder: CoreBuilder, watching: Watching) -> World:
    """A world on an event queue of its own."""
    queue = EventQueue()

    def open_shell(step: Step, perform: Perform, watch: Watch | None) -> Shell:
        return QueueShell(queue, step, perform, watch)

    return World(scenario, builder, watching, queue, open_shell)


__all__ = ["Speed", "Watching", "World", "queue_world"]
