"""A tiny model on disk, loaded through a weights cache of the session's own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_llama import write_tiny_llama

sys.path.append(str(Path(__file__).parent))  # live_pair: imported by these tests only


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session", autouse=True)
def own_weight_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
