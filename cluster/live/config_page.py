"""Writes docs/configuration.md from the definitions in config.py.

`python -m splitweave.cluster.live.config_page > docs/configuration.md`
"""

import dataclasses
from typing import Any

from pydantic.fields import FieldInfo

from . import config

SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("[model]", config.ModelConfig),
    ("[[pools]]", config.PoolConfig),
    ("[budgets]", config.BudgetConfig),
    ("[slo]", config.SloConfig),
    ("[gateway]", config.GatewayConfig),
    ("[controller]", config.ControllerConfig),
    ("[transport]", config.TransportConfig),
    ("[nccl]", config.NcclConfig),
    ("[ray]", config.RayConfig),
)

HEAD = """# Configuration

One TOML file describes a cluster: `splitweave serve --config cluster.toml`. A minimal one:

```toml
[model]
path = "demo"

[[pools]]
name = "prefill"
role = "prefill"
count = 1
cpus = 0.5

[[pools]]
name = "decode"
role = "decode"
count = 2
cpus = 0.5
```

Unknown keys, wrong types and values out of bounds are refused by name; a close match is
suggested. There are no environment switches of our own.

At the top level, `record` (default empty): a folder, relative to the config file, for recordings of
every core's events, which
`splitweave.proto.record.replay` runs again.
"""


def page() -> str:
    """The whole page as Markdown."""
    return HEAD + "".join(_section(title, cls) for title, cls in SECTIONS)


def _section(title: str, cls: type[Any]) -> str:
    rows = "".join(_row(field) for field in dataclasses.fields(cls))
    summary = (cls.__doc__ or "").strip()
    head = f"\n## `{title}`\n\n{summary}\n\n"
    return head + f"| key | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _row(field: "dataclasses.Field[Any]") -> str:
    info = field.default
    assert isinstance(info, FieldInfo), field.name
    if info.is_required():
        default = "required"
    else:
        value = info.get_default(call_default_factory=True)
        default = f"`{value!r}`" if value not in ("", {}) else "empty"
    return f"| `{field.name}` | {_type_name(field.type)} | {default} | {info.description} |\n"


def _type_name(annotation: Any) -> str:
    name = getattr(annotation, "__name__", None) or str(annotation)
    if hasattr(annotation, "__metadata__"):
        name = annotation.__origin__.__name__ + " > 0"
    return {"str": "string", "int": "integer", "Role": "string"}.get(name, name)


if __name__ == "__main__":
    print(page(), end="")
