"""The sections: what each shows, how long it may take, and where its code is.

Data only: `run.py --list` needs neither torch nor a GPU.
"""

from dataclasses import dataclass

TOTAL_S = 480.0


@dataclass(frozen=True, kw_only=True)
class Section:
    """`function` of `module` takes Findings and Settings, in a process of its own."""

    name: str
    shows: str
    budget_s: float
    module: str
    function: str


SECTIONS = (
    Section(
        name="machine",
        shows="which GPU, driver, torch, NCCL and Triton",
        budget_s=30,
        module="block_copies",
        function="machine",
    ),
    Section(
        name="kernels",
        shows="gather and scatter of KV blocks equal the reference; their share of copy bandwidth",
        budget_s=60,
        module="block_copies",
        function="block_copies",
    ),
    Section(
        name="copies",
        shows="two ranks on one GPU over NCCL: copies of all sizes arrive; bytes per second, "
        "memory of a pair",
        budget_s=80,
        module="motion",
        function="copies",
    ),
    Section(
        name="both-ways",
        shows="copies in both directions at once do not deadlock",
        budget_s=50,
        module="motion",
        function="both_ways",
    ),
    Section(
        name="killed-peer",
        shows="a peer killed midway: how soon its copies fail, and the next life is paired with",
        budget_s=60,
        module="motion",
        function="killed_peer",
    ),
    Section(
        name="frozen-peer",
        shows="a peer stopped midway: its copy fails at the timeout, the pair is built anew",
        budget_s=60,
        module="motion",
        function="frozen_peer",
    ),
    Section(
        name="eviction",
        shows="no more than pairs_max communicators live, and the GPU's memory comes back",
        budget_s=60,
        module="motion",
        function="eviction",
    ),
    Section(
        name="engine",
        shows="the model on the GPU: greedy tokens against the CPU's, prefill and decode speed",
        budget_s=90,
        module="model",
        function="engine",
    ),
    Section(
        name="same-host",
        shows="for information: the same bytes through CUDA IPC",
        budget_s=40,
        module="same_host",
        function="cuda_ipc",
    ),
)


def chosen(names: list[str]) -> tuple[Section, ...]:
    """The named ones, in the table's order; all if none is named. KeyError for an unknown."""
    known = {section.name for section in SECTIONS}
    for name in names:
        if name not in known:
            raise KeyError(name)
    return tuple(section for section in SECTIONS if not names or section.name in names)
