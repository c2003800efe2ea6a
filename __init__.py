"""Splitweave: serve large language models with prefill and decode apart.

The public names load lazily (PEP 562), so that importing the package costs
nothing and needs neither Ray nor torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {"Client": "client", "AsyncClient": "client"}
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'splitweave' has no attribute {name!r}")
    return getattr(import_module(f"splitweave.{module}"), name)
