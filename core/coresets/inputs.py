"""What selectors compute from a model's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def present(value: T | None, name: str) -> T:
    """``value``. Raises ``ValueError`` when it is ``None``: the selector was given samples without ``name``."""
    if value is None:
        raise ValueError(f"samples lack {name}: add {name!r} to what the selector needs")
    return value


def error_of(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """p - y (N x C), softmax probabilities minus one-hot labels: the gradient of the cross-entropy by the logits.

    The label's entry is minus the sum of the others, which stays exact where p is all but 1.
    """
    wrong_NC = logits_NC.softmax(1).scatter(1, labels_N[:, None], 0)
    return wrong_NC.scatter(1, labels_N[:, None], -wrong_NC.sum(1, keepdim=True))
