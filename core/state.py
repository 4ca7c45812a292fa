"""A checkpoint: named tensors and plain data as one safetensors blob. No pickle is written or loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

FORMAT = "swast-state-1"
KEY = "swast"
"""The one entry of the file's metadata: several would be written in random order."""


class StateError(ValueError):
    """A blob that is not a checkpoint of this format."""


@dataclass(frozen=True)
class RunState:
    """Everything that decides how a run goes on: bit-identically on the same CPU, dtype and thread count."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


def dump(state: RunState) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    tensors = {name: state.tensors[name].detach().cpu().contiguous() for name in sorted(state.tensors)}
    meta = json.dumps({"format": FORMAT, "meta": dict(state.meta)}, sort_keys=True, allow_nan=False)
    return safetensors.torch.save(tensors, metadata={KEY: meta})


def load(blob: bytes) -> RunState:
    """The inverse of ``dump``. Raises ``StateError`` on bytes that it did not write."""
    try:
        tensors = safetensors.torch.load(blob)
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"][KEY])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise StateError(f"not a checkpoint: {len(blob)} bytes that safetensors refuses ({error})") from error
    if header.get("format") != FORMAT:
        raise StateError(f"a checkpoint of format {header.get('format')!r}; this version reads {FORMAT!r}")
    return RunState(tensors=tensors, meta=header["meta"])


def take(state: RunState, prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix/``, named without it, in the order of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): state.tensors[name] for name in sorted(state.tensors) if name.startswith(start)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix/name``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}
