"""Models that cannot be used are refused by name; whole ones load through a safe cache."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from splitweave.kernels.reference import ReferenceKernels
from splitweave.kernels.seam import PackedWeight
from splitweave.workers.live.engine import load_engine
from splitweave.workers.models import weight_cache
from splitweave.workers.models.decoder_weights import assemble
from splitweave.workers.models.errors import ModelError, ModelFileError, UnsupportedModel
from splitweave.workers.models.gguf_file import read_gguf
from splitweave.workers.models.gguf_source import GgufSource, unpermute
from splitweave.workers.models.hf_source import HuggingFaceSource
from splitweave.workers.models.load import load_decoder_weights
from splitweave.workers.models.spec import Family, RopeKind
from splitweave.workers.models.spec_file import read_spec

KERNELS = ReferenceKernels()


def copy_folder(source: Path, target: Path, **changes: object) -> Path:
    """A model folder with other values in its config.json; None removes a key."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def test_smollm_is_what_its_card_says(smollm_path: Path) -> None:
    spec = read_spec(smollm_path)
    assert (spec.family, spec.layers, spec.hidden, spec.heads, spec.kv_heads) == (
        Family.LLAMA, 30, 576, 9, 3,
    )  # fmt: skip
    assert (spec.context_tokens, spec.vocab, spec.rope_theta) == (8192, 49152, 100_000.0)
    assert (spec.tied_embeddings, spec.eos_token_ids, spec.bos_token_id) == (True, (2,), 1)


def test_our_gguf_reader_agrees_with_the_gguf_package(smollm_path: Path) -> None:
    ours, theirs = read_gguf(smollm_path), gguf.GGUFReader(smollm_path)
    assert (
        ours.strings("tokenizer.ggml.merges") == theirs.fields["tokenizer.ggml.merges"].contents()
    )
    assert len(ours.tensors) == len(theirs.tensors)
    for tensor in theirs.tensors:
        entry = ours.tensors[tensor.name]
        assert entry.offset == tensor.data_offset
        assert entry.shape == tuple(int(size) for size in tensor.shape[::-1])


# ---- refused by name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "'GPT2LMHeadModel' is not supported; one of: llama",
        ),
        ({"architectures": None, "model_type": "bert"}, "'bert' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantization_config \(awq\)"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"num_hidden_layers": "three"}, r"num_hidden_layers \('three'\)"),
        ({"num_key_value_heads": 3}, r"heads \(4\) is not a multiple of kv_heads 3"),
        ({"hidden_size": None}, r"hidden_size \(None\)"),
        ({"vocab_size": 300}, r"embed_tokens.weight has shape \(257, 128\), expected \(300, 128\)"),
        ({"num_hidden_layers": 4}, r"tensor model.layers.3.* is missing"),
    ],
)
def test_folders_that_are_not_ours_are_refused_by_name(
    changes: dict[str, object],
    reason: str,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    cache_home: Path,
) -> None:
    folder = copy_folder(tiny_folder("qwen2"), tmp_path / "changed", **changes)
    with pytest.raises(ModelError, match=reason):
        load_decoder_weights(folder, KERNELS)
    assert not list(cache_home.glob("*"))


def test_head_sizes_that_the_cpu_kernels_lack_are_refused(
    tiny_folder: Callable[[str], Path], tmp_path: Path, cache_home: Path
) -> None:
    del cache_home
    folder = copy_folder(
        tiny_folder("qwen2"), tmp_path / "m", num_attention_heads=8, num_key_value_heads=4
    )
    with pytest.raises(UnsupportedModel, match=r"head_dim \(16\) is not a multiple of 32"):
        load_engine(folder, blocks=4, block_tokens=16, threads=1)


def test_a_sliding_window_bounds_the_context_where_it_is_used(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    mistral = copy_folder(tiny_folder("mistral"), tmp_path / "a", sliding_window=100)
    assert read_spec(mistral).context_tokens == 100
    qwen = copy_folder(
        tiny_folder("qwen2"), tmp_path / "b", sliding_window=100, use_sliding_window=False
    )
    assert read_spec(qwen).context_tokens == 512


def test_an_unknown_gguf_architecture_is_refused_by_name(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match=r"m\.gguf: architecture 'mamba' is not supported"):
        read_spec(tmp_path / "m.gguf")


# ---- missing, truncated, corrupt


def test_missing_files_are_named(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelFileError, match=r"no\.gguf: no such file"):
        read_spec(tmp_path / "no.gguf")
    with pytest.raises(ModelFileError, match=r"config\.json: no such file"):
        read_spec(tmp_path)
    folder = copy_folder(tiny_folder("mistral"), tmp_path / "m")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelFileError, match=rf"{shard.name}: no such file"):
        HuggingFaceSource(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelFileError, match="has neither"):
        HuggingFaceSource(folder)


@pytest.mark.parametrize("kept", [0, 3, 12, 200, 500_000, 2_000_000, -1])
def test_a_truncated_gguf_is_refused_wherever_it_ends(
    kept: int, smollm_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.gguf"
    with smollm_path.open("rb") as whole:
        path.write_bytes(whole.read() if kept < 0 else whole.read(kept))
    if kept < 0:
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"cut\.gguf: (truncated|cannot be read|not a GGUF)"):
        GgufSource(path)


def test_corrupt_heads_are_refused_not_crashed_on(smollm_path: Path, tmp_path: Path) -> None:
    with smollm_path.open("rb") as whole:
        head = bytearray(whole.read(4096))
    numbers = np.random.default_rng(1)
    for _ in range(300):
        broken = head.copy()
        for at in numbers.integers(0, 1500, 3):
            broken[at] = numbers.integers(0, 256)
        (tmp_path / "m.gguf").write_bytes(broken)
        with pytest.raises(ModelError):
            GgufSource(tmp_path / "m.gguf")


def test_truncated_safetensors_are_refused(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_folder(tiny_folder("qwen2"), tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"model\.safetensors: truncated or corrupt"):
        HuggingFaceSource(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_broken_config_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelFileError, match=r"config\.json"):
        read_spec(tmp_path)


# ---- GGUF weights


def test_unpermute_undoes_llama_cpps_permutation() -> None:
    weight = np.arange(4 * 6 * 5, dtype=np.float32).reshape(24, 5)
    permuted = weight.reshape(4, 2, 3, 5).swapaxes(1, 2).reshape(24, 5)
    assert np.array_equal(unpermute(permuted, 4), weight)


QUANTIZED = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


@pytest.mark.parametrize("kind", QUANTIZED)
def test_stored_types_are_dequantized_as_the_gguf_package_does(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    stored_as = gguf.GGMLQuantizationType[kind]
    stored = gguf.quantize(values, stored_as)
    writer = gguf.GGUFWriter(path, "qwen2")
    for key, number in {
        "embedding_length": 64, "block_count": 1, "feed_forward_length": 64,
        "attention.head_count": 2, "context_length": 128,
    }.items():  # fmt: skip
        writer.add_uint32(f"qwen2.{key}", number)
    writer.add_float32("qwen2.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_tensor("token_embd.weight", stored, raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufSource(path).find("model.embed_tokens.weight")
    assert found is not None
    assert np.array_equal(found.numpy(), gguf.dequantize(stored, stored_as).reshape(64, 64))


def test_a_gguf_written_from_a_folder_gives_the_folders_weights(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Llama as llama.cpp's converter writes it: q and k permuted, rope factors a tensor."""
    folder = HuggingFaceSource(tiny_folder("llama"))
    path = tmp_path / "llama.gguf"
    write_llama_gguf(folder, path)
    source = GgufSource(path)
    assert source.spec.rope_scaling.kind is RopeKind.FACTORS
    ours, theirs = dict(assemble(source, KERNELS)), dict(assemble(folder, KERNELS))
    assert set(ours) - set(theirs) == {"rope_factors"}
    for name, weight in theirs.items():
        assert torch.equal(plain(ours[name]), plain(weight)), name


def plain(weight: weight_cache.Weight) -> torch.Tensor:
    return weight.data if isinstance(weight, PackedWeight) else weight


def write_llama_gguf(folder: HuggingFaceSource, path: Path) -> None:
    from splitweave.workers.models.gguf_source import _IN_LAYER, gguf_name

    spec = folder.spec
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(spec.hidden)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_context_length(spec.context_tokens)
    writer.add_layer_norm_rms_eps(spec.rms_eps)
    writer.add_rope_freq_base(spec.rope_theta)
    names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    names += [
        f"model.layers.{layer}.{module}.{suffix}"
        for layer in range(spec.layers) for module in _IN_LAYER for suffix in ("weight", "bias")
    ]  # fmt: skip
    for name in names:
        tensor = folder.find(name)
        if tensor is None:
            continue
        values = tensor.numpy()
        heads = {"q_proj": spec.heads, "k_proj": spec.kv_heads}.get(name.split(".")[-2])
        if heads:
            halves = values.reshape(heads, 2, spec.head_dim // 2, *values.shape[1:])
            values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
        writer.add_tensor(gguf_name(name), values)
    writer.add_tensor("rope_freqs.weight", np.ones(spec.head_dim // 2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- the cache


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_the_second_load_maps_the_file_that_the_first_wrote(
    tiny_folder: Callable[[str], Path], cache_home: Path
) -> None:
    folder = tiny_folder("qwen3")
    _, first = load_decoder_weights(folder, KERNELS)
    file = only_file(cache_home)
    written = file.stat()
    _, second = load_decoder_weights(folder, KERNELS)
    assert only_file(cache_home).stat().st_mtime_ns == written.st_mtime_ns
    source = HuggingFaceSource(folder)
    for bound in (first, second):
        assert torch.equal(bound.embedding, source.find("model.embed_tokens.weight"))
        assert torch.equal(
            bound.layers[2].down.data, source.find("model.layers.2.mlp.down_proj.weight")
        )
    before = file.read_bytes()
    second.embedding.zero_()  # copy on write: the file keeps its bytes
    assert file.read_bytes() == before


@pytest.mark.parametrize("harm", ["empty", "half", "longer", "magic", "table", "zeros"])
def test_a_broken_cache_file_is_written_anew(
    harm: str, tiny_folder: Callable[[str], Path], cache_home: Path
) -> None:
    folder = tiny_folder("qwen2")
    _, expected = load_decoder_weights(folder, KERNELS)
    file = only_file(cache_home)
    whole = file.read_bytes()
    broken = {
        "empty": b"", "half": whole[: len(whole) // 2], "longer": whole + b"x",
        "magic": b"x" + whole[1:], "table": whole[:-9] + b"x" + whole[-8:],
        "zeros": bytes(len(whole)),
    }[harm]  # fmt: skip
    # Replaced, not overwritten: `expected` still maps the old bytes.
    (file.parent / "broken").write_bytes(broken)
    (file.parent / "broken").replace(file)
    _, again = load_decoder_weights(folder, KERNELS)
    assert torch.equal(again.layers[1].qkv.data, expected.layers[1].qkv.data)
    assert file.read_bytes() == whole


def test_a_writer_that_dies_leaves_no_file(cache_home: Path) -> None:
    def dies() -> object:
        yield "one", torch.zeros(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weight_cache.store(cache_home / "m.weights", dies())  # type: ignore[arg-type]
    assert list(cache_home.iterdir()) == []


def load_in_process(folder: Path, home: Path, begin: object, results: object) -> None:
    import os

    os.environ["XDG_CACHE_HOME"] = str(home)
    begin.wait()  # type: ignore[attr-defined]
    _, weights = load_decoder_weights(folder, KERNELS)
    results.put(float(weights.layers[2].down.data.double().sum()))  # type: ignore[attr-defined]


def test_concurrent_writers_end_with_one_whole_file(
    tiny_folder: Callable[[str], Path], cache_home: Path
) -> None:
    folder = tiny_folder("mistral")
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=load_in_process, args=(folder, cache_home.parent, begin, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    sums = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert only_file(cache_home).suffix == ".weights"
    expected = HuggingFaceSource(folder).find("model.layers.2.mlp.down_proj.weight")
    assert expected is not None
    assert sums == {float(expected.double().sum())}


def test_a_cache_that_cannot_be_written_costs_time_only(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    spec, weights = load_decoder_weights(tiny_folder("qwen2"), KERNELS)
    assert len(weights.layers) == spec.layers


def test_another_model_gets_another_file(
    tiny_folder: Callable[[str], Path], tmp_path: Path, cache_home: Path
) -> None:
    first = tiny_folder("qwen2")
    load_decoder_weights(first, KERNELS)
    load_decoder_weights(copy_folder(first, tmp_path / "m", rms_norm_eps=1e-5), KERNELS)
    assert len(list(cache_home.iterdir())) == 2
