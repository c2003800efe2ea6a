"""The stream beside the model's that copies run on.

On the model's own stream a copy would wait for every kernel that is queued
already, and its kernels would delay the model's. All threads of pairs share
one: what they put there, gathers, checksums and scatters, is short.
"""

import torch


class CopyStream:
    """One per device; on a device without streams it does nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def enter(self) -> None:
        """From now on this thread's work goes here, behind what it has queued elsewhere."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self.device)
        if current != self._stream:
            self._stream.wait_stream(current)
            torch.cuda.set_stream(self._stream)
