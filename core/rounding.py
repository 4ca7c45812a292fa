"""Exact counts: how many weights or samples a ratio keeps, and how a total is divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def count(ratio: float, total: int) -> int:
    """floor(ratio * total + 1/2), taken on the decimal that was written (0.35 * 10 is 3.5, not 3.4999...)."""
    return math.floor(Fraction(repr(float(ratio))) * total + Fraction(1, 2))


def largest_remainder(shares: Sequence[float], total: int, limits: Sequence[int] | None = None) -> list[int]:
    """Divide ``total`` in proportion to ``shares``: floors first, then the largest remainders, ties to the lower index.

    No part exceeds its entry of ``limits``; what is cut off is divided again among the parts that have room.
    Raises ``ValueError`` when the limits cannot hold the total.
    """
    room = [total] * len(shares) if limits is None else list(limits)
    if sum(room) < total:
        raise ValueError(f"cannot divide {total} among parts that hold at most {sum(room)}")
    parts = [0] * len(shares)
    while (left := total - sum(parts)) > 0:
        open_parts = [i for i in range(len(shares)) if parts[i] < room[i]]
        weights = [Fraction(shares[i]) for i in open_parts]
        if sum(weights) == 0:
            weights = [Fraction(1)] * len(open_parts)
        exact = [w * left / sum(weights) for w in weights]
        extra = [math.floor(x) for x in exact]
        by_remainder = sorted(range(len(exact)), key=lambda j: (extra[j] - exact[j], j))
        for j in by_remainder[: left - sum(extra)]:
            extra[j] += 1
        for i, more in zip(open_parts, extra, strict=True):
            parts[i] = min(room[i], parts[i] + more)
    return parts
