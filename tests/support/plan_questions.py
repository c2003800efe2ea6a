"""Small plans: a small model, cheap machines, a load that simulates in a blink."""

from random import Random

from splitweave.proto.views import Role
from splitweave.sim.clock import to_ns
from splitweave.sim.planner.drafts import Ask
from splitweave.sim.planner.fleet import Fleet, Shape
from splitweave.sim.planner.machines import Offer, WorkerType, worker_types
from splitweave.sim.planner.models import model_of
from splitweave.sim.planner.question import Question
from splitweave.sim.planner.slo import Slo
from splitweave.sim.planner.trace import Load
from splitweave.sim.planner.trial import Verdict
from splitweave.sim.workloads.arrivals import Arrival, Segment

WELL = Verdict(
    met=True, requests=10, misses=0, late_first=0, late_rest=0, refused=0, ttft_s=0.5, tpot_s=0.03,
    goodput_per_s=2.0, span_s=5.0, placing_s=0.0, queueing_s=0.0, computing_s=0.0,
    busy=(0.5, 0.4), full=(0.3, 0.2), stopped=False,
)  # fmt: skip
SMALL = Offer(machines=("L40S", "A10G"), tp_sizes=(1, 2))


def small_load(
    seed: int = 1, requests: int = 60, rate_per_s: float = 4.0, shared: float = 0.0
) -> Load:
    """Poisson; prompts of 50 to 2 000 tokens, outputs of 1 to 60. `shared`: the chance that a
    prompt begins with one of three system prompts.
    """
    dice = Random(seed)
    at_s, arrivals = 0.0, []
    for index in range(requests):
        segments = [Segment(f"own/{index}", dice.randint(50, 2000))]
        if dice.random() < shared:
            segments.insert(0, Segment(f"system/{dice.randrange(3)}", 512))
        arrivals.append(
            Arrival(at_ns=to_ns(at_s), segments=tuple(segments), output_tokens=dice.randint(1, 60))
        )
        at_s += dice.expovariate(rate_per_s)
    return Load("small", tuple(arrivals))


def small_question(
    load: Load | None = None, slo: Slo | None = None, tokens: int | None = None
) -> Question:
    return Question(
        model=model_of("Llama-3.1-8B"),
        load=load or small_load(),
        slo=slo or Slo(ttft_s=1.0, tpot_s=0.06, percent=90),
        tokens=tokens,
    )


def small_ask(question: Question | None = None, **changes: object) -> Ask:
    question = question or small_question()
    given: dict[str, object] = {
        "question": question, "offer": SMALL, "requests": question.load.requests,
        "gpus_max": 4, "jobs": 1, **changes,
    }  # fmt: skip
    return Ask(**given)  # type: ignore[arg-type]


def small_types(offer: Offer = SMALL) -> dict[str, WorkerType]:
    found = worker_types(offer, model_of("Llama-3.1-8B"), 16, 2200)
    return {kind.name: kind for kind in found}


def mixed(kind: WorkerType, count: int) -> Fleet:
    return Fleet(Shape((Role.MIXED,), (kind,)), (count,))


def pair(prefill: WorkerType, prefills: int, decode: WorkerType, decodes: int) -> Fleet:
    return Fleet(Shape((Role.PREFILL, Role.DECODE), (prefill, decode)), (prefills, decodes))
