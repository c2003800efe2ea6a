"""From a model's path to weights in memory: through the cache where possible."""

import logging
import mmap
from pathlib import Path

import torch
from xxhash import xxh3_128, xxh3_128_hexdigest

from ...kernels.seam import Kernels
from . import weight_cache
from .decoder_weights import DecoderWeights, Weight, assemble, bind, move
from .errors import ModelFileError
from .resident import resident
from .spec import ModelSpec
from .tensor_source import TensorSource, open_source

log = logging.getLogger(__name__)


def load_decoder_weights(
    path: Path, kernels: Kernels, device: str = "cpu"
) -> tuple[ModelSpec, DecoderWeights]:
    """The model at `path` (a GGUF file or a Hugging Face folder).

    The first load of a file dequantizes, packs and stores it; later ones map the
    stored file and copy it to where it is read fastest. Raises ModelError.
    """
    source = open_source(path)
    cached = weight_cache.cache_folder() / f"{content_key(source)}-{layout_key(kernels)}.weights"
    weights = weight_cache.load(cached)
    if weights is None:
        weights = _fill(source, kernels, cached)
    if device == "cpu":
        weights = resident(weights)
    else:
        weights = {name: move(weight, device) for name, weight in weights.items()}
    return source.spec, bind(source.spec, weights)


def _fill(source: TensorSource, kernels: Kernels, cached: Path) -> dict[str, Weight]:
    try:
        weight_cache.store(cached, assemble(source, kernels))
    except OSError as error:  # no space, read-only home: slower next time, nothing else
        log.warning("weights cache file=%s error=%s action=load-without", cached, error)
        return dict(assemble(source, kernels))
    log.info("weights cache file=%s state=written", cached)
    weights = weight_cache.load(cached)
    return dict(assemble(source, kernels)) if weights is None else weights


def content_key(source: TensorSource) -> str:
    """A hash over every byte of every file of the model. Raises ModelFileError."""
    digest = xxh3_128()
    for path in source.files():
        try:
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        except (OSError, ValueError) as error:
            raise ModelFileError(path, f"cannot be read: {error}") from error
    return digest.hexdigest()


def layout_key(kernels: Kernels) -> str:
    """A hash of how these kernels lay out a small weight: another layout, another file."""
    probe_NK = torch.arange(101 * 40, dtype=torch.float32).view(101, 40)
    data = kernels.pack(probe_NK).data.cpu().contiguous()
    shape = ",".join(map(str, data.shape)).encode()
    return xxh3_128_hexdigest(shape + data.numpy().tobytes())[:12]
