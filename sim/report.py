"""A run's results as tables in the terminal."""

from rich.console import Group
from rich.table import Table

from .results.results import Results
from .results.text_tables import TextTable, tables_of


def tables(results: Results) -> Group:
    """Latencies, stages, moves, totals and pools of one run."""
    return Group(*map(shown, tables_of(results)))


def shown(text: TextTable) -> Table:
    """One table, its first column to the left."""
    bare = not any(text.columns)
    table = Table(title=text.title, caption=text.caption or None, show_header=not bare)
    table.caption_justify = "left"
    for index, name in enumerate(text.columns):
        table.add_column(name, justify="right" if index else "left")
    for row in text.rows:
        table.add_row(*row)
    return table
