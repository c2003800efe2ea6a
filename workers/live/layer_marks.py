"""Lets copies follow the model, layer by layer, on a device with streams.

The engine's thread queues kernels far ahead of the device. It marks each layer
whose KV it has queued; whoever reads blocks on another stream waits, on the
device, for the mark of the last layer that it reads, and for nothing later.
On a CPU a layer's KV is stored when `on_layer` says so, and none of this is needed.
"""

import torch


class LayerMarks:
    """One mark per layer, the newest counts."""

    def __init__(self, layers: int, device: torch.device) -> None:
        self._device = device
        self._events = [torch.cuda.Event() for _ in range(layers)] if device.type == "cuda" else []

    def stored(self, layer: int) -> None:
        """On the engine's thread: this layer's KV is in the stream."""
        if self._events:
            self._events[layer].record(torch.cuda.current_stream(self._device))

    def follow(self, layer: int) -> None:
        """On any thread: what it queues from now on runs after the layer's mark."""
        if self._events:
            torch.cuda.current_stream(self._device).wait_event(self._events[layer])

    def settle(self) -> None:
        """Wait until the device has done what this thread's stream was given."""
        if self._events:
            torch.cuda.current_stream(self._device).synchronize()
