"""What a soak's journal says: a table of curves, the counts, and a picture."""

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from splitweave.benchmarks.survival.drift import DRIFT_MAX, FILES_MAX, Curve, curves
from splitweave.benchmarks.survival.journal import Line

WARM_UP_S = 300.0
BAD = ("failed", "wrong", "running")


def report(console: Console, lines: Sequence[Line], warm_up_s: float) -> bool:
    """Prints it all; True if nothing failed, nothing differed, and what is ours is flat."""
    found = curves(lines, warm_up_s)
    console.print(_curve_table(found, warm_up_s))
    counts = Counter(line["outcome"] for line in lines if line["kind"] == "stream")
    console.print("streams: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    _print_faults(console, lines)
    errors = Counter(
        line["error"] for line in lines if line["kind"] == "stream" and line["outcome"] in BAD
    )
    for error, count in errors.most_common(10):
        console.print(f"[red]{count} x {error}[/red]", highlight=False)
    return not any(counts[what] for what in BAD) and all(c.flat for c in found if c.ours)


def _curve_table(found: Sequence[Curve], warm_up_s: float) -> Table:
    table = Table(
        title=f"last quarter against second, without the first {warm_up_s:g} s of each life",
        box=SIMPLE,
        padding=0,
        collapse_padding=True,
    )
    for name in (
        "role",
        " lives",
        "     RSS",
        "  drift",
        "     USS",
        "  drift",
        "    files",
        "  threads",
    ):
        table.add_column(name, justify="left" if name == "role" else "right", no_wrap=True)
    for curve in found:
        colour = "" if curve.flat or not curve.ours else "red"
        table.add_row(
            curve.role if curve.ours else f"({curve.role})",
            str(curve.lives),
            f"{curve.rss_mib:.1f}",
            _percent(curve.rss_drift),
            f"{curve.uss_mib:.1f}",
            _percent(curve.uss_drift),
            _change(curve.descriptors),
            _change(curve.threads),
            style=colour,
        )
    flat = f"memory ±{DRIFT_MAX:.0%}, files +{FILES_MAX} at most"
    table.caption = f"MiB; flat: {flat}; (Ray's own) for information"
    return table


def _percent(drift: float | None) -> str:
    return "-" if drift is None else f"{drift:+.1%}"


def _change(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:g}>{pair[1]:g}"


def _print_faults(console: Console, lines: Sequence[Line]) -> None:
    by_kind: dict[str, list[Line]] = {}
    for line in lines:
        if line["kind"] == "recovery":
            by_kind.setdefault(line["fault"], []).append(line)
    for kind, recoveries in by_kind.items():
        noticed = [line["noticed_s"] for line in recoveries if line["noticed_s"] is not None]
        back = [line["back_s"] for line in recoveries if line["back_s"] is not None]
        console.print(
            f"{len(recoveries)} x {kind}: noticed after {_middle(noticed)}, "
            f"whole again after {_middle(back)}, {len(recoveries) - len(back)} never",
            highlight=False,
        )


def _middle(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} s (at most {max(values):.1f})"


def draw(lines: Sequence[Line], path: Path) -> None:
    """Memory of every process over the run, faults as lines. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(12, 9), sharex=True)
    lives: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        if line["kind"] == "sample" and line["ours"] and line["role"] != "starting":
            lives.setdefault((line["name"], line["pid"]), []).append(line)
    names = sorted({name for name, _ in lives})
    for (name, _), samples in lives.items():
        colour = f"C{names.index(name) % 10}"
        minutes = [sample["at_s"] / 60 for sample in samples]
        axes[0].plot(minutes, [sample["uss_mib"] for sample in samples], color=colour)
        axes[1].plot(minutes, [sample["descriptors"] for sample in samples], color=colour)
    for name in names:
        axes[0].plot([], [], color=f"C{names.index(name) % 10}", label=name)
    for line in lines:
        if line["kind"] == "fault":
            for axis in axes:
                axis.axvline(line["at_s"] / 60, color="0.85", linewidth=0.8, zorder=0)
    axes[0].set_ylabel("USS, MiB")
    axes[0].legend(loc="upper right", fontsize="small", ncols=4)
    axes[1].set_ylabel("open descriptors")
    axes[1].set_xlabel("minutes (grey: a fault)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
