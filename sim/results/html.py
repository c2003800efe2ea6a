"""One HTML file that shows a run: opens from disk, needs no network.

The page carries plotly.js (4.8 MB) and its plots as data; everything else is text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from ... import __version__
from .cards import Card, cards_of
from .plots import Figure, plots_of
from .results import Results, ResultsError
from .text_tables import TextTable, tables_of

TEMPLATE = Path(__file__).with_name("report.html")
ABOUT = {
    "ttft": ("Time to first token", "Share of requests within so many seconds of their arrival."),
    "tpot": ("Time per output token", "One number per request; the first token is no part of it."),
    "e2e": ("End to end", "Arrival to last token."),
    "bands": (
        "Where each second of TTFT went",
        "Requests from the fastest half to the slowest hundredth: mean seconds by stage.",
    ),
    "moves": ("KV moved between workers", "Hidden: sent while the source still computed."),
    "rates": ("Requests", "Arrivals, completions, and those within their SLO."),
    "tokens": ("Throughput", "Output tokens per second."),
    "flight": ("In flight", "Between arrival and last token."),
    "busy": ("Utilisation", "Share of time in which a pool's workers run an iteration."),
    "batch": ("Batch", "Requests that run on a worker, mean of its pool."),
    "heat": ("KV occupancy", "Blocks held or leased, per worker; evictable cached blocks aside."),
}
SECTIONS = (
    ("Latency", "How long clients waited, against the SLO.", ("ttft", "tpot", "e2e")),
    ("Where the time went", "", ("bands", "moves")),
    ("What happened when", "", ("rates", "tokens", "flight")),
    ("The fleet", "", ("busy", "batch", "heat")),
)
WIDE = ("heat",)


def page_of(results: Results) -> str:
    """The report of one run. Raises ResultsError where plotly is not installed."""
    plots, tables = plots_of(results), tables_of(results)
    parts = [_cards(cards_of(results))]
    for title, about, names in SECTIONS:
        shown = [name for name in names if name in plots]
        mine = [each for each in tables if each.section == title]
        if shown or mine:
            parts.append(heading(title, about))
            parts.append(figures(ABOUT, shown))
            parts += [table(each) for each in mine]
    parts += [heading("What this rests on", ""), _rests_on(results)]
    return fill(f"{results.name}: simulated", _subtitle(results), "\n".join(parts), plots)


def fill(title: str, subtitle: str, body: str, plots: dict[str, Figure]) -> str:
    """A whole page. Raises ResultsError."""
    return Template(TEMPLATE.read_text()).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        body=body,
        version=escape(__version__),
        plotly=plotly_js(),
        plots=json.dumps(plots).replace("<", "\\u003c"),
    )


@cache
def plotly_js() -> str:
    """plotly.js, as the package `plotly` carries it. Raises ResultsError."""
    try:
        return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    except ModuleNotFoundError:
        raise ResultsError(
            "an HTML report needs plotly, which is not installed: pip install 'splitweave[report]'"
        ) from None


def _subtitle(results: Results) -> str:
    metrics, slo = results.metrics, results.scenario["slo"]
    pools = " + ".join(f"{pool['count']} × {pool['name']}" for pool in results.scenario["pools"])
    return (
        f"{metrics.requests} requests in {metrics.virtual_s:.1f} virtual seconds on {pools}; "
        f"SLO: TTFT ≤ {slo['ttft_s']:g} s, TPOT ≤ {slo['tpot_s']:g} s; "
        f"seed {results.scenario['seed']}"
    )


def heading(title: str, about: str) -> str:
    """A section's head."""
    return f"<h2>{escape(title)}</h2>" + (f'<p class="about">{escape(about)}</p>' if about else "")


def _cards(cards: Iterable[Card]) -> str:
    shown = [
        f'<div class="card {card.mood}"><div class="what">{escape(card.what)}</div>'
        f'<div class="figure">{escape(card.figure)} <small>{escape(card.unit)}</small></div>'
        f'<div class="beside">{escape(card.beside)}</div></div>'
        for card in cards
    ]
    columns = 5 if len(shown) > 8 else 4
    return f'<div class="cards" style="--columns: {columns}">{"".join(shown)}</div>'


def figures(said: Mapping[str, tuple[str, str]], names: Sequence[str]) -> str:
    """Room for the plots `names`, with what is `said` of each: title and subtitle."""
    shown = []
    for name in names:
        title, about = said[name]
        wide = ' class="wide"' if name in WIDE else ""
        shown.append(
            f"<figure{wide}><figcaption>{escape(title)}<small>{escape(about)}</small></figcaption>"
            f'<div id="{name}"></div></figure>'
        )
    columns = max(1, sum(name not in WIDE for name in names))
    return f'<div class="plots" style="--columns: {min(3, columns)}">{"".join(shown)}</div>'


def table(text: TextTable) -> str:
    """One table, its caption below."""
    head = "".join(f"<th>{escape(name)}</th>" for name in text.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in text.rows
    )
    return (
        f'<div class="panel"><h3>{escape(text.title)}</h3><table>'
        f"<caption>{escape(text.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _rests_on(results: Results) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in results.provenance)
    meant = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
        for name, text in results.definitions.items()
    )
    scenario = escape(json.dumps(results.scenario, indent=2))
    return (
        f'<div class="panel"><ul>{lines}</ul></div>'
        f'<div class="panel"><details><summary>What every figure means</summary><dl>{meant}</dl>'
        f"</details></div>"
        f'<div class="panel"><details><summary>The scenario</summary><pre>{scenario}</pre>'
        f"</details></div>"
    )
