"""Everything that needs a GPU, built, checked and timed by one command in at most 8 minutes.

    python benchmarks/gpu/run.py [--only NAME …] [--json FILE] [--model PATH]
    python benchmarks/gpu/run.py --list | --dry-run

Each section runs in a process of its own, with a time budget of its own: one
that fails, hangs or dies does not stop the rest. One GPU is enough: the two
ranks of a pair share it. Prints one table; exits 0 if every claim holds, 1 if
one does not, 2 without a GPU.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from gpu_outcome import Findings, Outcome, Skipped, State, judge, read_findings, table  # noqa: E402
from sections import SECTIONS, TOTAL_S, Section, chosen  # noqa: E402
from settings import Settings  # noqa: E402

EXIT_FAILED, EXIT_NO_GPU = 1, 2
FINDINGS = "findings: "  # opens the one line of a section's output that is data
SKIPPED = "skipped: "
KILL_WAIT_S = 5.0
Say = Callable[[str], None]


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.section:
        return run_here(options.section, Settings(model=options.model))
    try:
        sections = chosen(options.only)
    except KeyError as unknown:
        names = ", ".join(section.name for section in SECTIONS)
        print(f"unknown section {unknown}; one of: {names}", file=sys.stderr)
        return EXIT_FAILED
    if options.list or options.dry_run:
        print(plan(sections, options.dry_run))
        return 0
    if reason := no_gpu():
        print(f"no GPU: {reason}", file=sys.stderr)
        return EXIT_NO_GPU
    outcomes = run_all(sections, options.model, options.budget, say)
    print(table(outcomes))
    if options.json:
        found = [outcome.as_json() for outcome in outcomes]
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    good = all(outcome.state in (State.PASSED, State.SKIPPED) for outcome in outcomes)
    return 0 if good else EXIT_FAILED


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        epilog="exit status: 0 every claim holds, 1 one does not, 2 there is no GPU",
    )
    parser.add_argument("--list", action="store_true", help="name the sections and end")
    parser.add_argument(
        "--dry-run", action="store_true", help="print each section's command and budget, and end"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these sections only")
    parser.add_argument("--json", metavar="FILE", help="write all findings there, too")
    parser.add_argument(
        "--model",
        default="",
        metavar="PATH",
        help="GGUF file or folder; default: the demo model if installed, else random weights",
    )
    parser.add_argument(
        "--budget", type=float, default=TOTAL_S, metavar="SECONDS", help="for all sections together"
    )
    parser.add_argument("--section", default="", help=argparse.SUPPRESS)
    return parser


def plan(sections: tuple[Section, ...], with_commands: bool) -> str:
    """What would run."""
    lines = []
    for section in sections:
        lines.append(f"{section.name:<13}{section.budget_s:4.0f} s  {section.shows}")
        if with_commands:
            lines.append("             " + " ".join(command(section, "")))
    lines.append(f"{'all':<13}{min(TOTAL_S, sum(s.budget_s for s in sections)):4.0f} s  at most")
    return "\n".join(lines)


def command(section: Section, model: str) -> list[str]:
    """What runs one section."""
    words = [sys.executable, "-P", str(HERE / "run.py"), "--section", section.name]
    return [*words, "--model", model] if model else words


def no_gpu() -> str:
    """Why there is no GPU to use; empty if there is one."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device"
    return ""


def run_all(sections: tuple[Section, ...], model: str, total_s: float, say: Say) -> list[Outcome]:
    """One after the other, each with what is left of the time."""
    ends_at = time.monotonic() + total_s
    outcomes = []
    for number, section in enumerate(sections, 1):
        left_s = min(section.budget_s, ends_at - time.monotonic())
        say(f"[{number}/{len(sections)}] {section.name}: {section.shows} (at most {left_s:.0f} s)")
        if left_s <= 1:
            reason = f"the {total_s:.0f} s for all sections were used up"
            outcome = Outcome(section=section.name, state=State.SKIPPED, seconds=0.0, reason=reason)
        else:
            outcome = run_apart(section.name, command(section, model), left_s)
        outcomes.append(outcome)
    return outcomes


def run_apart(name: str, words: list[str], budget_s: float) -> Outcome:
    """A section in a process group of its own, killed as one when its time is up."""
    began_at = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, text=True
        )
        try:
            process.wait(budget_s)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        end_group(process)
        output.seek(0)
        text = output.read()
    seconds = time.monotonic() - began_at
    outcome = read_outcome(name, text, process.returncode, seconds)
    if timed_out:
        outcome.state, outcome.reason = State.TIMED_OUT, f"after {budget_s:.0f} s{last_words(text)}"
    return outcome


def end_group(process: subprocess.Popen[str]) -> None:
    """Whatever the section started goes with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(KILL_WAIT_S)


def read_outcome(name: str, text: str, status: int | None, seconds: float) -> Outcome:
    """From a section's output and exit status."""
    findings, skipped = Findings(), ""
    for line in text.splitlines():
        if line.startswith(FINDINGS):
            findings = read_findings(line.removeprefix(FINDINGS))
        elif line.startswith(SKIPPED):
            skipped = line.removeprefix(SKIPPED)
    state, reason = judge(findings)
    if skipped:
        state, reason = State.SKIPPED, skipped
    elif status != 0:
        state, reason = State.FAILED, f"exit status {status}{last_words(text)}"
    return Outcome(section=name, state=state, seconds=seconds, reason=reason, findings=findings)


def last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(FINDINGS)]
    return f": {lines[-1].strip()[:300]}" if lines else ""


def run_here(name: str, settings: Settings) -> int:
    """The child's side: one section, its findings on one line, also if it fails midway."""
    (section,) = chosen([name])
    make_importable()
    findings = Findings()
    try:
        getattr(importlib.import_module(section.module), section.function)(findings, settings)
    except Skipped as reason:
        print(f"{SKIPPED}{reason}", flush=True)
    finally:
        print(f"{FINDINGS}{findings.dump()}", flush=True)
    return 0


def make_importable() -> None:
    """The checkout as the package `splitweave`, also where it is not installed."""
    try:
        import splitweave  # noqa: F401
    except ImportError:
        folder = Path(tempfile.mkdtemp(prefix="splitweave-gpu-"))
        (folder / "splitweave").symlink_to(HERE.parent.parent)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
