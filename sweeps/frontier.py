"""Which joint cell to train next, so that few cells find the frontier of collapse.

The chance of a collapse is the logistic model of ``analysis.logistic``, with an offset for every seed: runs of one seed
share their luck, so that many runs of one seed do not settle a frontier. The next cell is the one that is expected to
narrow the model most where it is undecided (P near 1/2), per cell that it costs: controls that no other run has needed
yet are part of its price. [Ours: V-optimal design, weighted by P (1 - P).]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis.inference import Floats
from analysis.logistic import Plane, information, maximise
from core.config import CellConfig
from sweeps.cells import Cells
from sweeps.policy import FrontierSearch

SEED_SPREAD = 1.0
"""Standard deviation of the prior of a seed's offset, in logits."""


@dataclass(frozen=True)
class Candidate:
    """A listed joint cell. ``variant`` numbers all that it is beside its rate, ratio and seed.

    ``needs`` are the cell_ids of its controls and itself.
    """

    cell_id: str
    variant: int
    prune_rate: float
    coreset_ratio: float
    seed: int
    needs: frozenset[str]


@dataclass(frozen=True)
class Space:
    """What a search may choose from, and how many cells it may train."""

    candidates: tuple[Candidate, ...]
    budget: int

    @cached_property
    def by_id(self) -> dict[str, Candidate]:
        """The candidates by cell_id."""
        return {candidate.cell_id: candidate for candidate in self.candidates}

    def spent(self, taken: Iterable[str]) -> frozenset[str]:
        """The cells that these candidates need, themselves included."""
        return frozenset().union(*(self.by_id[cell_id].needs for cell_id in taken))

    def affordable(self, taken: Collection[str]) -> tuple[Candidate, ...]:
        """The candidates that are not taken and for which the budget lasts."""
        paid = self.spent(taken)
        left = self.budget - len(paid)
        return tuple(c for c in self.candidates if c.cell_id not in taken and len(c.needs - paid) <= left)


def space(cells: Cells, search: FrontierSearch) -> Space:
    """The joint cells that a grid lists, with their controls, and the budget as a number of cells."""
    variants: dict[tuple[CellConfig, int | None], int] = {}
    found = []
    for cell in cells.cells:
        config = cell.config
        if not cell.controls:
            continue
        # A warm-up that the grid leaves open follows the ratio: it tells no variants apart.
        elsewhere = replace(config, seed=0, prune_rate=0.5, coreset_ratio=0.5, warmup_epochs=0)
        kind = (elsewhere, cells.own_warmup(config))
        needs = frozenset((cell.cell_id, *cell.controls))
        variant = variants.setdefault(kind, len(variants))
        found.append(Candidate(cell.cell_id, variant, config.prune_rate, config.coreset_ratio, config.seed, needs))
    return Space(tuple(found), search.most(len(cells.cells)))


def choose(
    space: Space, outcomes: Mapping[str, bool | None], running: Collection[str], rng: np.random.Generator
) -> Candidate | None:
    """The candidate to train next; ``None`` when the budget lasts for none.

    ``outcomes``: whether each candidate that was trained collapsed, ``None`` where that cannot be said. Those that are
    ``running`` count as known, with either outcome.
    """
    taken = {*outcomes, *running}
    left = space.affordable(taken)
    if not left:
        return None
    paid = space.spent(taken)
    gain: dict[str, float] = {}
    for variant in {candidate.variant for candidate in left}:
        gain |= _gains([c for c in space.candidates if c.variant == variant], outcomes, running)
    worth = np.array([gain[c.cell_id] / max(1, len(c.needs - paid)) for c in left])
    best = np.flatnonzero(worth >= worth.max() * (1 - 1e-9))
    return left[int(rng.choice(best))]


def _gains(
    candidates: Sequence[Candidate], outcomes: Mapping[str, bool | None], running: Collection[str]
) -> dict[str, float]:
    """How much less of the undecided cells' variance is expected after a run of each candidate."""
    terms_CK, spread_K, of_seed_K = _terms(candidates)
    known_C = np.array([outcomes.get(c.cell_id) is not None for c in candidates], dtype=np.float64)
    collapsed_C = np.array([outcomes.get(c.cell_id) is True for c in candidates], dtype=np.float64)
    awaited_C = np.array([c.cell_id in running for c in candidates], dtype=np.float64)
    weights_K = maximise(terms_CK, collapsed_C[None], known_C[None], spread_K)[0]
    chance_C = expit(terms_CK @ weights_K)
    precision_KK = information(terms_CK, chance_C[None], (known_C + awaited_C)[None], spread_K)[0]
    # The frontier is that of all seeds: the offsets of single ones are no part of it.
    of_all_CK = np.where(of_seed_K, 0.0, terms_CK)
    of_all_C = expit(of_all_CK @ weights_K)
    step_KC = np.linalg.solve(precision_KK, terms_CK.T)
    told_C = 1 / np.maximum(chance_C * (1 - chance_C), 1e-12) + (terms_CK * step_KC.T).sum(axis=1)
    gain_C = (of_all_C * (1 - of_all_C)) @ (of_all_CK @ step_KC) ** 2 / told_C
    return {c.cell_id: float(gain) for c, gain in zip(candidates, gain_C, strict=True)}


def _terms(candidates: Sequence[Candidate]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The model's terms at each candidate, the spread of the prior of each, and which are a seed's offset."""
    rates, ratios, seeds = (
        np.array([getattr(c, name) for c in candidates]) for name in ("prune_rate", "coreset_ratio", "seed")
    )
    plane = Plane(tuple(np.unique(rates)), tuple(np.unique(ratios)))
    names = np.unique(seeds)
    terms = np.concatenate([plane.terms(rates, ratios), seeds[:, None] == names], axis=1)
    of_seed = np.arange(terms.shape[1]) >= len(plane.spread)
    return terms, np.concatenate([plane.spread, np.full(len(names), SEED_SPREAD)]), of_seed
