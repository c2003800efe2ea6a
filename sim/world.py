"""A world: a controller, gateways, workers and clients on virtual time.

Everything that decides is a core of the live system; the world performs their
effects. It can be hurt from outside (`kill_worker`, `freeze_worker`, …) and
healed; `faults.py` says what happens when, `campaign.py` what must hold after.
"""

from dataclasses import replace
from random import Random
from typing import Any

from ..proto.batch import Batch
from ..proto.cluster_events import ClusterStarted, GatewayDied, WorkerLost
from ..proto.effects import AnswerAsk, RestartStarting
from ..proto.gateway_events import ClientGone, GenerateAsked
from ..proto.ids import GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from ..proto.worker_events import ViewAsked, WorkerStarted
from .clients import ENDED_KEPT_MAX, Clients, Stream, class_of
from .clock import Scheduler, to_ns
from .cores import CoreBuilder
from .engine import Engine
from .links import Links, LinkSpec, LinkTrouble
from .mail import Mail
from .maker import Maker, Open, Watching
from .network import Network
from .parties import CONTROLLER, EndOrder
from .queue import EventQueue
from .scenario import FaultSpec, PoolSpec, Scenario
from .shell import Perform, QueueShell, Shell, Step, Watch
from .streams import VOCAB, TrueStream
from .workloads.arrivals import Arrival
from .workloads.prompts import PromptMaker

RETIRED_DOWN_NS = 500_000_000
FENCED_NOTICED_NS = 100_000_000  # from a fenced worker's end to the controller's shell
FENCED_DOWN_NS = 500_000_000
ASK_AGAIN_NS_MAX = 5_000_000_000


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
        self.observer = watching.observer
        self.scheduler = scheduler
        calm = not watching.checked and scenario.faults == FaultSpec()
        self.clients = Clients(
            checked=watching.checked,
            context_tokens_max=scenario.model.context_tokens_max,
            ended_max=ENDED_KEPT_MAX if calm else None,
        )
        self.clients.ask_again = self._failed
        self._ask_again_ns = to_ns(scenario.faults.ask_again_s)
        self.links = Links(scenario.seed, scheduler)
        network = scenario.network
        latency_ns, jitter_ns = int(network.latency_us * 1e3), int(network.jitter_us * 1e3)
        self.clients.latency_ns = latency_ns
        self.mail = Mail(Network(scheduler, latency_ns, jitter_ns, scenario.seed))
        self.answers: dict[str, AnswerAsk] = {}
        self.retired = 0
        self._maker = Maker(scenario, builder, watching, scheduler, open_shell)
        stop_token_ids = frozenset(range(round(VOCAB * scenario.stop_chance)))
        self._prompts = PromptMaker(scenario.seed, scenario.block_tokens, stop_token_ids)
        self._lives: dict[str, int] = {}  # how often each controller and gateway came up
        self._incarnations: dict[WorkerId, int] = {}
        self._pools: dict[WorkerId, PoolSpec] = {}

    # ---- birth

    def start(self) -> None:
        """Controller, gateways and workers come up, now."""
        late_ns = to_ns(self.scenario.faults.told_late_s)
        if late_ns:
            self.links.trouble(LinkTrouble(told_late_ns_max=late_ns))
        self.start_controller(None)
        for gateway_id in self.gateway_ids:
            self.start_gateway(gateway_id)
        for pool in self.scenario.pools:
            for index in range(pool.count):
                worker_id = WorkerId(f"{pool.name}-{index}")
                self._pools[worker_id] = pool
                self.links.attach(worker_id, _port(pool, index))
                self.start_worker(worker_id)

    def start_controller(self, _: None) -> None:
        """A new controller that knows nothing asks all workers to register."""
        if self.mail.controller is not None:
            return
        name = self._name(CONTROLLER)
        party = self._maker.controller(name, self.mail, self, self._answered)
        self.mail.controller = party
        party.shell.post(ClusterStarted())
        if self._lives[CONTROLLER] > 1:
            for worker in list(self.mail.workers.values()):
                self.mail.to_worker(CONTROLLER, worker.key, ViewAsked())

    def start_worker(self, worker_id: WorkerId) -> None:
        """A new incarnation comes up, if none lives."""
        if worker_id in self.mail.workers:
            return
        incarnation = self._incarnations.get(worker_id, 0) + 1
        self._incarnations[worker_id] = incarnation
        key = WorkerKey(worker_id, Incarnation(incarnation))
        party = self._maker.worker(key, self._pools[worker_id], self.mail, self, self.links)
        self.mail.workers[worker_id] = party
        party.shell.post(WorkerStarted())

    def start_gateway(self, gateway_id: GatewayId) -> None:
        """A gateway without streams comes up, if none of that name lives."""
        if gateway_id not in self.mail.gateways:
            party = self._maker.gateway(gateway_id, self._name(gateway_id), self.mail, self.clients)
            self.mail.gateways[gateway_id] = party

    def _name(self, party: str) -> str:
        self._lives[party] = life = self._lives.get(party, 0) + 1
        return f"{party}#{life}"

    # ---- what engines ask

    def engine(self, key: WorkerKey) -> Engine | None:
        """That incarnation's engine, None if it is gone."""
        party = self.mail.living(key)
        return None if party is None else party.engine

    def stream(self, request_id: RequestId) -> TrueStream:
        """The true stream of a request."""
        return self.clients.truth(request_id)

    def end_fenced(self, key: WorkerKey) -> None:
        """A worker that was given up ends itself; whoever started it starts the next life."""
        if self.mail.living(key) is not None:
            self.kill_worker(key.worker_id, FENCED_NOTICED_NS, "fenced")
            at_ns = self.scheduler.now_ns + FENCED_DOWN_NS
            self.scheduler.at(at_ns, self.start_worker, key.worker_id)

    def drew(self, request_id: RequestId, ends_ns: list[int]) -> None:
        """A worker drew a token at each of these times."""
        self.clients.drew(request_id, ends_ns)

    def catch_up(self) -> None:
        """Every worker is as of now: before somebody looks at one between its steps."""
        for party in self.mail.workers.values():
            if party.engine.fast is not None:
                party.engine.fast.catch_up()

    def computing(self, batch: Batch, begins_ns: int, ends_ns: int) -> None:
        """An iteration runs: its requests are on their way to a token."""
        self.clients.computing(batch, begins_ns, ends_ns)

    # ---- clients

    def arrive(self, index: int, arrival: Arrival) -> RequestId:
        """A client asks the next gateway in turn; a session stays with its own."""
        gateway_id = self.gateway_ids[index % len(self.gateway_ids)]
        now_ns = self.scheduler.now_ns
        request_class = arrival.request_class
        if request_class is None:
            request_class = class_of(self.scenario.classes, self.scenario.seed, index)
        request = self._prompts.request(index, arrival, gateway_id)
        request = replace(request, request_class=request_class)
        deadline_ns = self._deadline_ns(index, now_ns)
        if arrival.within_ns is not None:
            deadline_ns = now_ns + arrival.within_ns
        self.clients.ask(request, now_ns, deadline_ns)
        if arrival.turns:
            self.clients.keep_answer(request.request_id)
        self._ask(gateway_id, request.request_id)
        return request.request_id

    def hang_up(self, request_id: RequestId) -> None:
        """The client of a running request goes away; no error if it has ended."""
        if self.clients.hang_up(request_id):
            party = self.mail.gateways.get(self.clients.streams[request_id].gateway_id)
            if party is not None:
                party.shell.post(ClientGone(request_id=request_id))

    def _deadline_ns(self, index: int, now_ns: int) -> int | None:
        """When a client wants its answer by; most have all the time in the world."""
        faults = self.scenario.faults
        dice = Random(f"deadline {self.scenario.seed} {index}")
        if dice.random() >= faults.deadlines:
            return None
        return now_ns + to_ns(dice.uniform(0.0, faults.deadline_s_max))

    def _ask(self, gateway_id: GatewayId, request_id: RequestId) -> None:
        party = self.mail.gateways.get(gateway_id)
        if party is None:  # refused at the door: try the next one a little later
            at_ns = self.scheduler.now_ns + self._ask_again_ns
            self.scheduler.at(at_ns, self._ask_elsewhere, (request_id, gateway_id))
        elif (request := self.clients.resume(request_id, gateway_id)) is not None:
            deadline_ns = self.clients.streams[request_id].deadline_ns
            if deadline_ns is not None:  # clients send what is left; the gateway adds it to its now
                deadline_ns += party.shell.now_ns - self.scheduler.now_ns
            party.shell.post(GenerateAsked(request=request, deadline_ns=deadline_ns))

    def _failed(self, stream: Stream) -> None:
        """The SDK waits twice as long after each failure in a row."""
        wait_ns = min(self._ask_again_ns << stream.failures, ASK_AGAIN_NS_MAX)
        at_ns = self.scheduler.now_ns + wait_ns
        self.scheduler.at(at_ns, self._ask_elsewhere, (stream.request_id, stream.gateway_id))

    def _ask_elsewhere(self, what: tuple[RequestId, GatewayId]) -> None:
        """What the SDK does when its gateway is gone: the next one, with what it has."""
        request_id, gone = what
        stream = self.clients.streams.get(request_id)
        if stream is None or stream.gateway_id != gone or stream.ended:
            return  # it has been elsewhere since
        stream.resumes += 1
        last = self.gateway_ids.index(gone)
        stream.gateway_id = self.gateway_ids[(last + 1) % len(self.gateway_ids)]
        self._ask(stream.gateway_id, request_id)

    def ask_controller(self, event: Any) -> None:
        """An operator asks through the first gateway."""
        self.mail.to_controller(self.gateway_ids[0], event)

    # ---- harm

    def kill_worker(self, worker_id: WorkerId, noticed_ns: int, reason: str = "killed") -> None:
        """The process dies; the controller's shell notices `noticed_ns` later."""
        party = self.mail.workers.pop(worker_id, None)
        if party is None:
            return
        party.close()
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

    def kill_gateway(self, gateway_id: GatewayId, noticed_ns: int) -> None:
        """A gateway's process dies with its streams; their clients ask elsewhere."""
        party = self.mail.gateways.pop(gateway_id, None)
        if party is None:
            return
        party.shell.close()
        now_ns = self.scheduler.now_ns
        self.scheduler.at(now_ns + noticed_ns, self._notice, GatewayDied(gateway_id=gateway_id))
        for stream in list(self.clients.streams.values()):
            if stream.gateway_id == gateway_id and not stream.ended:
                what = (stream.request_id, gateway_id)
                self.scheduler.at(now_ns + self._ask_again_ns, self._ask_elsewhere, what)

    def heal(self) -> None:
        """End every fault: all links and messages good, everybody up and awake."""
        self.mail.network.heal()
        self.links.heal()
        self.start_controller(None)
        for worker in list(self.mail.workers.values()):
            worker.host.fail = 0.0
            self.thaw_worker(worker.key)
        for worker_id in self._pools:
            self.start_worker(worker_id)
        for gateway_id in self.gateway_ids:
            self.start_gateway(gateway_id)

    @property
    def worker_ids(self) -> list[WorkerId]:
        return list(self._pools)

    @property
    def gateway_ids(self) -> list[GatewayId]:
        return [GatewayId(f"gateway.{n}") for n in range(self.scenario.network.gateways)]

    def described(self) -> list[str]:
        """What the run's times and block counts rest on, one line each."""
        return self._maker.described()

    def _notice(self, lost: WorkerLost | GatewayDied) -> None:
        # The controller's own shell sees it: no network between.
        if self.mail.controller is not None:
            self.mail.controller.shell.post(lost)

    def _answered(self, answer: AnswerAsk) -> None:
        self.answers[answer.ask_id] = answer

    def placed(self, request_id: RequestId) -> None:
        """The controller sends a request to a worker."""
        self.clients.placed(request_id, self.scheduler.now_ns)

    def retire(self, effect: EndOrder) -> None:
        """A worker's process ends, drained or hanging; its pool starts another in its place."""
        if isinstance(effect, RestartStarting):
            at_ns = self.scheduler.now_ns + RETIRED_DOWN_NS
            self.scheduler.at(at_ns, self.start_worker, effect.worker_id)
            return
        if self.mail.living(effect.key) is None:
            return
        self.retired += 1
        self.scheduler.at(self.scheduler.now_ns + to_ns(0.01), self._end_retired, effect.key)

    def _end_retired(self, key: WorkerKey) -> None:
        if self.mail.living(key) is not None:
            self.kill_worker(key.worker_id, to_ns(0.01), "retired")
            at_ns = self.scheduler.now_ns + RETIRED_DOWN_NS
            self.scheduler.at(at_ns, self.start_worker, key.worker_id)


def _port(pool: PoolSpec, index: int) -> LinkSpec:
    local = pool.nvlink_gbytes_per_s
    return LinkSpec(
        bytes_per_s=pool.link_gbytes_per_s * 1e9,
        latency_ns=int(pool.link_latency_us * 1e3),
        node=pool.node_of(index),
        local_bytes_per_s=None if local is None else local * 1e9,
        local_latency_ns=int(pool.nvlink_latency_us * 1e3),
    )


def queue_world(scenario: Scenario, builder: CoreBuilder, watching: Watching) -> World:
    """A world on an event queue of its own."""
    queue = EventQueue()

    def open_shell(step: Step, perform: Perform, watch: Watch | None) -> Shell:
        return QueueShell(queue, step, perform, watch)

    return World(scenario, builder, watching, queue, open_shell)


__all__ = ["Watching", "World", "queue_world"]
