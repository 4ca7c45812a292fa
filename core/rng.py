"""Randomness by address: every draw is a pure function of (seed, stream, epoch, step).

No draw depends on the draws before it, so a fork or a resume continues exactly as the undisturbed run would.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Stream = Literal[
    "init",
    "order",
    "augment",
    "select",
    "prune",
    "noise",
    "split",
    "fork",
    "support",
    "dropout",
    "calibration",
    "means",
    "pixels",
]


def address(seed: int, stream: Stream, epoch: int = 0, step: int = 0) -> int:
    """The 32-bit seed of one address (torch's CPU generator keeps 32 bits of a seed)."""
    text = f"{seed}/{stream}/{epoch}/{step}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def generator(seed: int, stream: Stream, epoch: int = 0, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one address. Draw on the CPU, then move, so that every device sees the same draw."""
    import torch

    return torch.Generator().manual_seed(address(seed, stream, epoch, step))
