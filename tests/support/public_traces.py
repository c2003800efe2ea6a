"""The public traces beside the checkout, where there are any: they are not part of the project."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from splitweave.sim.workloads.arrivals import Arrival
from splitweave.sim.workloads.source import read_trace

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data here")
FILES = {
    "azure-code": ("azure/AzureLLMInferenceTrace_code.csv", "azure"),
    "azure-conversation": ("azure/AzureLLMInferenceTrace_conv.csv", "azure"),
    "mooncake-conversation": ("mooncake/mooncake_fast25_conversation_trace.jsonl", "mooncake"),
    "mooncake-synthetic": ("mooncake/mooncake_fast25_synthetic_trace.jsonl", "mooncake"),
    "splitwise": ("splitwise/trace_conv_70rps_2min.csv", "splitwise"),
    "vllm": ("vllm_runs/RTX4090-Llama-3.1-8B/requests.jsonl", "llmservingsim"),
}


def public_trace(name: str) -> Iterator[Arrival]:
    path, form = FILES[name]
    return read_trace(DATA / path, form)
