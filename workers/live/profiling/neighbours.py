"""Other workers' load on this machine: processes that compute one kind of iteration for ever.

Each loads the model anew, as a worker does. It computes from `load` to `rest`, which return
once every process has heard. A process ends with its pipe, so none outlives who started it.
"""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from types import TracebackType

from ....proto.batch import Batch
from ..engine import Engine, load_engine

START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 60.0  # an iteration may have to end first


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """What `load_engine` is given."""

    model_path: str
    device: str
    threads: int
    blocks: int
    block_tokens: int

    def load(self) -> Engine:
        """The engine. Raises ModelError."""
        return load_engine(
            self.model_path, self.blocks, self.block_tokens, self.device, self.threads
        )


class NeighbourError(Exception):
    """A neighbour did not start, or ended."""


class Neighbours:
    """So many processes; idle until `load`."""

    def __init__(self, setup: EngineSetup, count: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_compute, args=(setup, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            self._await(pipe, START_TIMEOUT_S)

    def __enter__(self) -> "Neighbours":
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._pipes)

    def load(self, batches: Sequence[Batch]) -> None:
        """All compute these batches in turns, from now on."""
        self._tell(tuple(batches))

    def rest(self) -> None:
        """None computes any more."""
        self._tell(())

    def close(self) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(ANSWER_TIMEOUT_S)

    def _tell(self, batches: tuple[Batch, ...]) -> None:
        for pipe in self._pipes:
            pipe.send(batches)
        for pipe in self._pipes:
            self._await(pipe, ANSWER_TIMEOUT_S)

    def _await(self, pipe: Connection, timeout_s: float) -> None:
        try:
            if pipe.poll(timeout_s):
                pipe.recv()
                return
        except (EOFError, OSError):
            self.close()
            raise NeighbourError("a neighbour ended; is there memory for one more model?") from None
        self.close()
        raise NeighbourError(f"a neighbour did not answer in {timeout_s:g} s")


def _compute(setup: EngineSetup, pipe: Connection) -> None:
    """A neighbour's life."""
    engine = setup.load()
    try:
        pipe.send(None)
        while True:
            batches = pipe.recv()
            pipe.send(None)
            for batch in cycle(batches):
                engine.run(batch, _nothing)
                if pipe.poll():
                    break
    except (EOFError, OSError):
        return  # whoever asked is gone


def _nothing(_: int) -> None:
    """No copy waits for a layer."""
