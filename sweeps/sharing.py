"""What a sweep trains, each cell alone and as a forest in which every segment is trained once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias

from sweeps.stages import Chain, Segment


@dataclass(frozen=True)
class Work:
    """A cell's cost up to every epoch, cumulated: index t is after epoch t, 0 before the first.

    ``flop``: dense FLOP of training, selection and evaluation (samples trained where torch is absent). ``bytes``: of
    one checkpoint.
    """

    samples: tuple[int, ...]
    steps: tuple[int, ...]
    flop: tuple[float, ...]
    bytes: int


@dataclass(frozen=True)
class Pace:
    """Seconds per FLOP, per optimizer step and per epoch of this sweep on the machine that ran some of it."""

    per_flop: float
    per_step: float
    per_epoch: float

    def seconds(self, flop: float, steps: int, epochs: int) -> float:
        """The time that so much training takes."""
        return self.per_flop * flop + self.per_step * steps + self.per_epoch * epochs


@dataclass(frozen=True)
class Load:
    """Work to be done. ``bytes``: the checkpoints at the ends of segments, which stay when it is done."""

    epochs: int = 0
    samples: int = 0
    steps: int = 0
    flop: float = 0.0
    bytes: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.epochs + other.epochs,
            self.samples + other.samples,
            self.steps + other.steps,
            self.flop + other.flop,
            self.bytes + other.bytes,
        )


def load_of(segment: Segment, work: Work) -> Load:
    """One segment of a cell with that work."""
    before, last = segment.first - 1, segment.last
    return Load(
        last - before,
        work.samples[last] - work.samples[before],
        work.steps[last] - work.steps[before],
        work.flop[last] - work.flop[before],
        work.bytes,
    )


def segments_of(chains: Mapping[str, Chain], works: Mapping[str, Work]) -> dict[Segment, Load]:
    """Every distinct segment of a forest and its load."""
    found: dict[Segment, Load] = {}
    for cell, chain in chains.items():
        for segment in chain:
            if segment not in found:
                found[segment] = load_of(segment, works[cell])
    return found


def alone(chains: Mapping[str, Chain], works: Mapping[str, Work]) -> Load:
    """Every cell trained from its first epoch to its last, on its own."""
    whole = (Segment("", 1, chain[-1].last) for chain in chains.values())
    return sum((load_of(segment, works[cell]) for segment, cell in zip(whole, chains, strict=True)), start=Load())


Shape: TypeAlias = tuple[tuple[int, int], tuple[tuple["Shape", int], ...]]
"""A segment's first and last epoch, and the shapes of what branches off at its end, each with its number."""


def shapes(chains: Iterable[Chain]) -> tuple[tuple[Shape, int], ...]:
    """The trees of a forest, those of one shape counted together, the most frequent first."""
    children: dict[Segment | None, dict[Segment, None]] = defaultdict(dict)
    for chain in chains:
        for parent, segment in zip((None, *chain), chain, strict=False):
            children[parent][segment] = None
    return _shapes(None, children)


def _shapes(
    parent: Segment | None, children: Mapping[Segment | None, Iterable[Segment]]
) -> tuple[tuple[Shape, int], ...]:
    found = Counter(((s.first, s.last), _shapes(s, children)) for s in children.get(parent, ()))
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def left_of(segments: Mapping[Segment, Load], done: Set[Segment]) -> Load:
    """What of a forest is not done."""
    return sum((load for segment, load in segments.items() if segment not in done), start=Load())
