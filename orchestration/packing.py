"""Data sets between processes: arrays in place of tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from core.data.bundle import Bundle, Split

T = TypeVar("T")


def packed(bundle: Bundle) -> Bundle:
    """The bundle with arrays for tensors; itself when it has them.

    Arrays need no torch where nothing is trained, and Ray ships them once per node and maps them into every worker.
    """
    return _converted(bundle, _array)


def hollow(bundle: Bundle) -> Bundle:
    """The bundle without its samples, for who asks how many there are: arrays of nothing, as long as before."""
    return _converted(bundle, lambda part: np.empty((len(part), 0), dtype=np.uint8))


def unpacked(bundle: Bundle) -> Bundle:
    """The inverse of ``packed``; the tensors share the arrays' memory, which nobody writes."""
    import torch

    def tensor(array: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array)

    return _converted(bundle, tensor)


def _array(part: Any) -> Any:
    return part if isinstance(part, np.ndarray) else part.cpu().contiguous().numpy()


def _converted(value: T, convert: Callable[[Any], Any]) -> T:
    changes: dict[str, Any] = {}
    for item in fields(value):  # type: ignore[arg-type]
        part = getattr(value, item.name)
        if isinstance(part, Split):
            changes[item.name] = _converted(part, convert)
        elif hasattr(part, "shape"):
            changes[item.name] = convert(part)
    return replace(value, **changes)  # type: ignore[type-var]
