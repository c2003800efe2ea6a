"""Pages as a headless Chromium leaves them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"
)


def opened(page: Path, profile: Path) -> tuple[str, str]:
    """The page after its scripts, and what it said on its console. No network."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={profile}", "--virtual-time-budget=10000", "--dump-dom",
            "--host-resolver-rules=MAP * ~NOTFOUND", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def drawn(dom: str, plot: str) -> bool:
    """Whether plotly has drawn that plot."""
    found = re.search(
        rf'<div id="{plot}" class="js-plotly-plot">.*?class="main-svg"', dom, re.DOTALL
    )
    return found is not None
