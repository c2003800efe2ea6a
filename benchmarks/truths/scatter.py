"""Every request of a run, recorded against simulated, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

SIDE_IN = 3.4


def draw(
    path: Path,
    title: str,
    recorded: Mapping[str, Sequence[float]],
    simulated: Mapping[str, Sequence[float]],
) -> None:
    """One square per metric; on the diagonal both say the same. The suffix says the format."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(SIDE_IN * len(recorded), SIDE_IN + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, metric in zip(figure.subplots(1, len(recorded)), recorded, strict=True):
        x, y = recorded[metric], simulated[metric]
        low, high = min(*x, *y) * 0.9, max(*x, *y) * 1.1
        axes.plot([low, high], [low, high], color="0.6", linewidth=0.8)
        for share in (0.95, 1.05):
            axes.plot([low, high], [low * share, high * share], color="0.85", linewidth=0.6)
        axes.scatter(x, y, s=6, alpha=0.5, linewidths=0)
        axes.set(
            xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal",
            title=metric, xlabel="recorded, s", ylabel="simulated, s",
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
