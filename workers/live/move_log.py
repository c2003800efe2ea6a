"""One line of the log per ended move."""

import re

from ...proto.move import MoveReport


def log_line(report: MoveReport) -> str:
    """All of a report as `key=value` pairs; a text with spaces is quoted."""
    values: dict[str, object] = {
        "move": report.move_id,
        "kind": report.kind,
        "request": report.request_id,
        "source": report.source,
        "target": report.target,
        "outcome": report.outcome,
        "reason": report.reason or "-",
        "blocks": report.blocks,
        "bytes": report.transfer_bytes,
        "hidden_share": f"{report.hidden_share:.3f}",
        "bytes_per_s": f"{report.bytes_per_s:.3g}",
        "copies": report.copies,
        "repeats": report.repeats,
        "pulled": str(report.pulled).lower(),
        "reserve_s": f"{report.reserve_ns / 1e9:.6f}",
        "copy_s": f"{report.copy_ns / 1e9:.6f}",
        "handover_s": f"{report.handover_ns / 1e9:.6f}",
        "wall_s": f"{report.wall_ns / 1e9:.6f}",
    }
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in values.items())


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value
