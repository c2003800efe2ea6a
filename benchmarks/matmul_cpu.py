"""The exact CPU matmul against torch's, over one SmolLM2-135M iteration.

Every linear layer of the model runs once per pass, the tied head included; the
two implementations take turns in one process, so that a busy machine slows both,
and medians are compared. Each layer has its own weights: they stream from memory
as in the model.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from splitweave.kernels.cpu.kernels import CpuKernels
from torch import Tensor
from torch.nn import functional

HIDDEN, FEED_FORWARD, VOCABULARY, LAYERS = 576, 1536, 49152, 30
QKV_WIDTH = (9 + 2 * 3) * 64
LAYER_SHAPES = (
    (QKV_WIDTH, HIDDEN),
    (HIDDEN, HIDDEN),
    (2 * FEED_FORWARD, HIDDEN),
    (HIDDEN, FEED_FORWARD),
)
ROW_COUNTS = (1, 2, 4, 8, 16, 32, 64, 256, 512, 1024)
# Prefill samples one row a sequence, decode all of its rows: the head sees at most this many.
HEAD_ROWS_MAX = 32

Pass = Callable[[dict[int, Tensor]], None]


def weights() -> list[Tensor]:
    """Every linear weight [N, K] of the model, at random; the head is last."""
    generator = torch.Generator().manual_seed(0)
    shapes = [*LAYER_SHAPES * LAYERS, (VOCABULARY, HIDDEN)]
    return [torch.randn(n, k, generator=generator) / k**0.5 for n, k in shapes]


def passes(all_weights: list[Tensor], threads: int) -> tuple[Pass, Pass]:
    """One pass over all layers by our kernels, and one by torch."""
    kernels = CpuKernels(threads)
    packed = [kernels.pack(weight) for weight in all_weights]

    def ours(inputs: dict[int, Tensor]) -> None:
        for weight in packed[:-1]:
            kernels.linear(inputs[weight.in_features], weight)
        kernels.linear(inputs[HIDDEN][:HEAD_ROWS_MAX], packed[-1])

    def torchs(inputs: dict[int, Tensor]) -> None:
        for weight in all_weights[:-1]:
            functional.linear(inputs[weight.shape[1]], weight)
        functional.linear(inputs[HIDDEN][:HEAD_ROWS_MAX], all_weights[-1])

    return ours, torchs


def seconds(run: Pass, inputs: dict[int, Tensor]) -> float:
    start = time.perf_counter()
    run(inputs)
    return time.perf_counter() - start


def measure(runs: tuple[Pass, Pass], rows: int, repeats: int) -> dict[str, float]:
    """Medians of interleaved passes, as tokens per second."""
    inputs = {k: torch.randn(rows, k) for k in (HIDDEN, FEED_FORWARD)}
    for run in runs:
        run(inputs)
    taken = [[seconds(run, inputs) for run in runs] for _ in range(repeats)]
    ours_s, torch_s = (statistics.median(column) for column in zip(*taken, strict=True))
    return {
        "rows": rows,
        "ours_tokens_per_s": rows / ours_s,
        "torch_tokens_per_s": rows / torch_s,
        "ratio": torch_s / ours_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROW_COUNTS, help="row counts")
    parser.add_argument("--repeats", type=int, default=5, help="passes per row count")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the table here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = passes(weights(), arguments.threads)
    print(f"{'rows':>5} {'ours tok/s':>11} {'torch tok/s':>11} {'ratio':>6}")
    table = []
    for rows in arguments.rows:
        line = measure(runs, rows, arguments.repeats)
        table.append(line)
        print(
            f"{rows:>5} {line['ours_tokens_per_s']:>11.0f} "
            f"{line['torch_tokens_per_s']:>11.0f} {line['ratio']:>6.2f}",
            flush=True,
        )
    if arguments.json:
        report = {"threads": arguments.threads, "repeats": arguments.repeats, "table": table}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
