"""Ends workers that are alive and given up: what a process supervisor does.

A worker that was frozen for too long is dead to the controller for ever, and
may still run. The supervisor looks once a second, gives it a while as the
zombie that it is, kills it, and starts the next incarnation.
"""

from ..proto.ids import WorkerKey
from .clock import NS_PER_S
from .world import World

LOOK_NS = NS_PER_S
ZOMBIE_NS = 2 * NS_PER_S  # from the first look that sees it to its end
RESTART_NS = NS_PER_S // 2


class Supervisor:
    """Looks after a world's workers from its first second on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen_ns: dict[WorkerKey, int] = {}
        self._again()

    def _look(self, _: None) -> None:
        now_ns = self._world.scheduler.now_ns
        for key in self._zombies(now_ns):
            if now_ns - self._seen_ns.setdefault(key, now_ns) >= ZOMBIE_NS:
                self._world.kill_worker(key.worker_id, RESTART_NS, "given up")
                at_ns = now_ns + RESTART_NS
                self._world.scheduler.at(at_ns, self._world.start_worker, key.worker_id)
        self._again()

    def _zombies(self, now_ns: int) -> list[WorkerKey]:
        controller = self._world.mail.controller
        if controller is None:
            return []
        dead = [w for w in controller.core.status(now_ns).workers if w.state == "dead"]
        keys = [WorkerKey(w.worker_id, w.incarnation) for w in dead]
        return [key for key in keys if self._world.mail.living(key) is not None]

    def _again(self) -> None:
        self._world.scheduler.at(self._world.scheduler.now_ns + LOOK_NS, self._look, None)
