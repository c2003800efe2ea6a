"""What `splitweave plan` does."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ...proto.toml_file import ConfigError
from ...proto.views import Role
from ..costs.catalogue import CATALOGUE
from ..errors import SimulationError
from .drafts import Ask, Plan
from .findings import as_json
from .machines import TP_SIZES, Offer
from .models import model_of
from .page import page_of
from .plan import make_plan
from .question import Question
from .report import best_line, report
from .slo import budget_of, slo_of
from .trace import Cut, load_of
from .written import cluster_toml, helm_values, values_yaml

CTRL_C = 130
WIDTH = 140
SPARE = 4  # times as many requests as are tried are read: at higher rates more are needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The command line, as typed."""

    trace: str
    model: str
    slo: str
    budget: str | None = None
    form: str | None = None
    catalogue: Path | None = None
    machines: str = ""
    tp: str = ""
    caps: str = ""
    roles: str = ""
    rate: float | None = None
    minutes: float | None = None
    requests: int = 1500
    confirm: int = 0
    tokens: int | None = None
    gpus_max: int = 64
    tries_max: int = 400
    seed: int = 1
    jobs: int = 2
    out: Path | None = None
    as_json: bool = False


def ask_of(given: Given) -> Ask:
    """What was typed, understood. Raises ConfigError or TraceError."""
    most = max(SPARE * given.requests, given.confirm)
    cut = Cut(minutes=given.minutes, requests_max=most, rate_per_s=given.rate)
    question = Question(
        slo=slo_of(given.slo),
        model=model_of(given.model),
        load=load_of(given.trace, given.form, cut, given.seed),
        tokens=given.tokens,
        seed=given.seed,
    )
    offer = Offer(
        catalogue=CATALOGUE if given.catalogue is None else given.catalogue.resolve(),
        machines=tuple(_words(given.machines)),
        tp_sizes=tuple(_whole("tp", word) for word in _words(given.tp)) or TP_SIZES,
        caps=tuple(_share(word) for word in _words(given.caps)) or (1.0,),
    )
    return Ask(
        question=question,
        offer=offer,
        requests=min(given.requests, question.load.requests),
        confirm=given.confirm,
        budget=None if given.budget is None else budget_of(given.budget),
        roles=tuple(_role(word) for word in _words(given.roles)) or tuple(Role),
        gpus_max=given.gpus_max,
        tries_max=given.tries_max,
        jobs=given.jobs,
    )


def run(given: Given) -> int:
    """Plan and print; the exit status. 0: done; 2: no plan for what was given; 130: Ctrl-C."""
    console = Console(stderr=given.as_json)
    if not console.is_terminal:
        console = Console(stderr=given.as_json, width=WIDTH)
    try:
        plan = Plan(ask=ask_of(given))
        status = _search(console, plan)
        if plan.finished or plan.best is not None:
            console.print(report(plan))
        if given.out is not None and plan.best is not None:
            for path in write(plan, given.out, given.model):
                console.print(f"written: {path}", soft_wrap=True, highlight=False)
    except (ConfigError, SimulationError, OSError) as error:
        problem = Console(stderr=True, soft_wrap=True, highlight=False)
        problem.print(str(error), style="red", markup=False)
        return 2
    if given.as_json:
        print(json.dumps(as_json(plan), indent=2))
    return status


def write(plan: Plan, folder: Path, model: str) -> list[Path]:
    """cluster.toml, values.yaml, plan.json and, with plotly, plan.html. Raises OSError."""
    best = plan.best
    assert best is not None, "nothing was found"
    folder.mkdir(parents=True, exist_ok=True)
    path = f"/models/{Path(model).name}"
    texts = {
        "cluster.toml": cluster_toml(plan, best, path),
        "values.yaml": values_yaml(helm_values(plan, best, path)),
        "plan.json": json.dumps(as_json(plan), indent=2) + "\n",
    }
    if find_spec("plotly") is not None:  # of the extra [report]
        texts["plan.html"] = page_of(plan)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _search(console: Console, plan: Plan) -> int:
    """Fill in the plan behind a bar; 130 if it was interrupted."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[best]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("bounds", total=None, best="")

        def watch(plan: Plan, doing: str) -> None:
            _show(progress, task, plan, doing)

        try:
            make_plan(plan, watch)
        except KeyboardInterrupt:
            progress.stop()
            console.print(f"interrupted; best so far: {best_line(plan)}", soft_wrap=True)
            return CTRL_C
    return 0


def _show(progress: Progress, task: TaskID, plan: Plan, doing: str) -> None:
    found = plan.found
    done = found.candidates - found.open
    text = f"{found.open} of {found.candidates} fleets open; best so far: {best_line(plan)}"
    progress.update(task, description=doing, completed=done, total=found.candidates, best=text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole(key: str, word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ConfigError(f"{key}: {word!r} is no whole number >= 1")
    return int(word)


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"caps: {word!r} is no share of a GPU's power limit in (0, 1]")
    return share


def _role(word: str) -> Role:
    try:
        return Role(word)
    except ValueError:
        raise ConfigError(f"roles: {word!r} (known: {', '.join(Role)})") from None
