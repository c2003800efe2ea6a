"""The model of a plan: a built-in name, or a config.json."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ...proto.toml_file import ConfigError, build, read
from ..costs.config_json import read_decoder
from ..costs.specs import ModelSpec

PATH = Path(__file__).with_name("models.toml")
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Models:
    """The file."""

    models: dict[str, ModelSpec]


@cache
def built_in() -> dict[str, ModelSpec]:
    """Every model that needs no file, by name."""
    return build(Models, {"models": read(PATH)}, str(PATH)).models


def model_of(name: str) -> ModelSpec:
    """The model called `name`, or described by that config.json. Raises ConfigError."""
    known = {key.lower(): model for key, model in built_in().items()}
    if name.lower() in known:
        return known[name.lower()]
    path = Path(name).expanduser()
    if not path.exists():
        names = ", ".join(built_in())
        raise ConfigError(f"model: {name!r} is no config.json here, and no built-in one ({names})")
    said = asdict(read_decoder(path))
    plain = round(said.pop("other_bytes"))
    return build(ModelSpec, {"dtype_bytes": plain, **said}, str(path))
