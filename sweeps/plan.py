"""What a sweep would run: wanted minus finished, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.config import CellConfig, as_dict, prunes
from core.data import Facts, Source
from core.measurements import Measurements
from sweeps.cells import Cell, Cells, expand, joint
from sweeps.costs import Cost, check, cost, epochs_of, starts_too_late, updates_after_switch, work
from sweeps.scheduler import Simulation, simulate
from sweeps.sharing import Load, Pace, Work, alone, left_of, segments_of
from sweeps.spec import SpecError, SweepSpec
from sweeps.stages import Chain, Segment, chain, forest

FEW_SEEDS = 3
EXECUTED = "executed, with evaluation"
"""What a plan foretells and a run's end tells, by the same name."""


@dataclass(frozen=True)
class Forecast:
    """What is foretold of one cell. ``updates``: mask updates from the first switch on, for joint cells."""

    cost: Cost
    updates: int | None
    work: Work


@dataclass(frozen=True)
class GridPoint:
    """One prune rate and coreset ratio: shares of dense training on all samples.

    ``trained``: samples trained on, the real compute of a dense model; ``trained_most``: of the dearest method there
    (that of infobatch is an estimate). ``relative``: theoretical FLOP with selection, ``None`` where torch is absent.
    ``paper``: alpha (1 - p), as the paper counts.
    """

    prune_rate: float
    coreset_ratio: float
    trained: float
    trained_most: float
    relative: float | None
    paper: float


@dataclass(frozen=True)
class Plan:
    """A sweep's cells with their forecasts, in one order; ``finished`` are ids of cells that need not run again."""

    name: str
    listed: int
    cells: tuple[Cell, ...]
    forecasts: tuple[Forecast, ...]
    finished: frozenset[str]
    points: tuple[GridPoint, ...]
    warnings: tuple[str, ...]
    chains: Mapping[str, Chain]
    """Of the cells that are to do, by cell_id."""
    segments: Mapping[Segment, Load]
    """What these chains consist of, and what each costs."""
    done: Set[Segment] = frozenset()
    """Segments whose last state is stored already."""
    pace: Pace | None = None
    budget_cells: int | None = None
    """Cells that a frontier search may train, finished ones included; ``None`` where the whole grid is trained."""

    @property
    def alone(self) -> Load:
        """What is to do if no cell shared anything, with another or with what is stored."""
        works = self.works()
        return alone(self.chains, works)

    @property
    def shared(self) -> Load:
        """What is to do, every segment once."""
        return left_of(self.segments, self.done)

    def works(self) -> dict[str, Work]:
        """The cost of every cell along its epochs, by cell_id."""
        return {cell.cell_id: forecast.work for cell, forecast in zip(self.cells, self.forecasts, strict=True)}

    def simulate(self, workers: int) -> Simulation:
        """The sweep on so many workers; in seconds when the pace is known, else in FLOP."""
        cost = {segment: self.seconds(load) or load.flop for segment, load in self.segments.items()}
        return simulate(self.chains, cost, workers, self.done)

    def seconds(self, load: Load) -> float | None:
        """How long one worker takes; ``None`` before the pace of this sweep is known."""
        return None if self.pace is None else self.pace.seconds(load.flop, load.steps, load.epochs)

    @property
    def to_do(self) -> tuple[Cell, ...]:
        """The cells that are not finished."""
        return tuple(cell for cell in self.cells if cell.cell_id not in self.finished)

    @property
    def added(self) -> int:
        """Baselines that the grid does not list."""
        return sum(cell.added for cell in self.cells)

    @property
    def total(self) -> Cost:
        """The cost of all cells, each run alone."""
        return sum((forecast.cost for forecast in self.forecasts), start=Cost())

    @property
    def remaining(self) -> Cost:
        """The cost of what is to do."""
        pairs = zip(self.cells, self.forecasts, strict=True)
        return sum((forecast.cost for cell, forecast in pairs if cell.cell_id not in self.finished), start=Cost())

    @property
    def least_updates(self) -> int | None:
        """The fewest mask updates due in a joint cell from its first switch (to a new coreset) on."""
        return min((f.updates for f in self.forecasts if f.updates is not None), default=None)

    def rows(self) -> tuple[tuple[str, str], ...]:
        """What to tell a person: labels and values."""
        remaining, alone, shared = self.remaining, self.alone, self.shared
        updates = "no joint cell" if self.least_updates is None else f"{self.least_updates} due at least"
        return (
            ("sweep", self.name),
            ("cells", f"{self.listed} listed, {len(self.cells)} distinct ({self.added} baselines added)"),
            ("to do", f"{len(self.to_do)} ({len(self.cells) - len(self.to_do)} finished)"),
            *self._search(),
            ("epochs, shared by cells", f"{shared.epochs:,} of {alone.epochs:,}"),
            ("samples trained", f"{shared.samples:,} of {alone.samples:,}"),
            ("samples trained, share of dense training", self._shares()),
            ("dense compute", _flop(remaining.dense)),
            ("theoretical compute", _flop(remaining.sparse)),
            (EXECUTED, executed(shared.flop, alone.flop)),
            ("seconds on one worker", self._seconds(shared, alone)),
            ("checkpoints that stay", f"{_bytes(shared.bytes)}, up to twice that before swast store gc"),
            ("mask updates after the first switch", updates),
        )

    def _search(self) -> tuple[tuple[str, str], ...]:
        """What a frontier search leaves of it. Which cells it asks for, and so their cost, nobody knows before."""
        if self.budget_cells is None:
            return ()
        share = f"{self.budget_cells / len(self.cells):.0%}"
        return (("frontier search", f"trains {self.budget_cells} cells at most ({share}); below: the whole grid"),)

    def _seconds(self, shared: Load, alone: Load) -> str:
        here, there = self.seconds(shared), self.seconds(alone)
        if here is None or there is None:
            return "unknown until some cells have run"
        return f"{here:,.0f} of {there:,.0f}"

    def _shares(self) -> str:
        """Larger than alpha: the epochs before the first selection train on everything."""
        shares: dict[float, set[str]] = {}
        for point in self.points:
            if point.coreset_ratio < 1:
                found = shares.setdefault(point.coreset_ratio, set())
                found |= {f"{point.trained:.3f}", f"{point.trained_most:.3f}"}
        told = (f"{' to '.join(sorted({min(s), max(s)}))} at α = {ratio:g}" for ratio, s in shares.items())
        return ", ".join(told) or "1.000"

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, for JSON."""
        return {
            "name": self.name,
            "listed": self.listed,
            "distinct": len(self.cells),
            "added": self.added,
            "finished": sorted(self.finished),
            "to_do": [cell.cell_id for cell in self.to_do],
            "total": asdict(self.total),
            "alone": asdict(self.alone),
            "shared": asdict(self.shared),
            "remaining": asdict(self.remaining),
            "least_updates": self.least_updates,
            "budget_cells": self.budget_cells,
            "points": [asdict(point) for point in self.points],
            "warnings": list(self.warnings),
            "cells": {cell.cell_id: as_dict(cell.config) for cell in self.cells},
        }


def make_plan(
    spec: SweepSpec,
    finished: Set[str] = frozenset(),
    chains: Mapping[str, Chain] | None = None,
    done: Set[Segment] = frozenset(),
    cells: Cells | None = None,
) -> Plan:
    """The plan of a sweep of which the cells with ids in ``finished`` are done.

    ``chains`` and ``done``: the forest as it is run, and what of it is stored; by default nothing is stored.
    ``cells``: by default those that the grid lists, and their baselines.

    Raises ``SpecError`` when a model cannot take the data set's images.
    """
    expanded = cells or expand(spec)
    configs = [cell.config for cell in expanded.cells]
    facts = {source: source.facts() for source in {config.data for config in configs}}
    known: dict[CellConfig, Forecast] = {}
    forecasts = tuple(_forecast(config, facts, known, spec.measurements) for config in configs)
    if chains is None:
        chains = forest({cell.cell_id: chain(cell.config, {}) for cell in expanded.cells})
    left = {cell.cell_id: chains[cell.cell_id] for cell in expanded.cells if cell.cell_id not in finished}
    works = {cell.cell_id: forecast.work for cell, forecast in zip(expanded.cells, forecasts, strict=True)}
    return Plan(
        name=spec.name,
        listed=expanded.listed,
        cells=expanded.cells,
        forecasts=forecasts,
        finished=frozenset(cell.cell_id for cell in expanded.cells) & frozenset(finished),
        points=_points(configs, forecasts, facts),
        warnings=tuple(_warnings(spec, configs, forecasts)),
        chains=left,
        segments=segments_of(left, works),
        done=done,
        budget_cells=None if spec.frontier is None else spec.frontier.most(len(expanded.cells)),
    )


def _forecast(
    config: CellConfig, facts: Mapping[Source, Facts], known: dict[CellConfig, Forecast], measurements: Measurements
) -> Forecast:
    """Cells that differ in their seed alone cost the same."""
    config = replace(config, seed=0)
    if config not in known:
        of_data = facts[config.data]
        epochs = epochs_of(config, of_data.train_size)
        try:
            check(config, of_data)
            spent = cost(config, of_data, epochs)
            load = work(config, of_data, epochs, measurements)
            known[config] = Forecast(spent, updates_after_switch(config, epochs), load)
        except ValueError as error:
            raise SpecError(f"model {config.model.name} on {config.data.name}: {error}") from error
    return known[config]


def _points(
    configs: list[CellConfig], forecasts: tuple[Forecast, ...], facts: Mapping[Source, Facts]
) -> tuple[GridPoint, ...]:
    """One per prune rate and coreset ratio. Of FLOP its first cell stands for all, whatever their methods and scope."""
    points: dict[tuple[float, float], GridPoint] = {}
    for config, forecast in zip(configs, forecasts, strict=True):
        at, spent = (config.prune_rate, config.coreset_ratio), forecast.cost
        trained = spent.samples / (facts[config.data].train_size * config.epochs)
        if at not in points:
            relative = spent.sparse / spent.full if spent.sparse is not None and spent.full else None
            points[at] = GridPoint(*at, trained, trained, relative, config.coreset_ratio * (1 - config.prune_rate))
        known = points[at]
        points[at] = replace(known, trained=min(known.trained, trained), trained_most=max(known.trained_most, trained))
    return tuple(points[at] for at in sorted(points, key=lambda at: (at[0], -at[1])))


def _warnings(spec: SweepSpec, configs: list[CellConfig], forecasts: tuple[Forecast, ...]) -> Iterator[str]:
    yield from _nothing_lost_twice(configs, forecasts)
    yield from _idle(spec, configs)
    yield from _at_once(configs)
    seeds = min(Counter(replace(config, seed=0) for config in configs).values())
    if seeds < FEW_SEEDS:
        number = "1 seed" if seeds == 1 else f"{seeds} seeds"
        yield f"some cells have {number} only: intervals need {FEW_SEEDS} or more, add values to axes.seed"
    if not spec.baselines and any(map(joint, configs)):
        yield "baselines: false, so gains and synergies are undefined for joint cells whose baselines are not listed"


def _nothing_lost_twice(configs: list[CellConfig], forecasts: tuple[Forecast, ...]) -> Iterator[str]:
    still = [config.pruner for config, forecast in zip(configs, forecasts, strict=True) if forecast.updates == 0]
    if not still:
        return
    once = sorted({pruner.name for pruner in still if not hasattr(pruner, "update_every")})
    advice = ["lower pruner.update_every, raise pruner.stop or select earlier"] * any(
        hasattr(pruner, "update_every") for pruner in still
    )
    advice += [f"{', '.join(once)} {'set their masks' if once[1:] else 'sets its mask'} once"] * bool(once)
    yield (
        f"{len(still)} of {sum(map(joint, configs))} joint cells have no mask update after their first selection, so "
        f"nothing can be lost twice in them: {'; '.join(advice)}"
    )


def _at_once(configs: list[CellConfig]) -> Iterator[str]:
    """Pruners that are meant to remove little by little and have no time for it."""
    found = [(config, epoch) for config in configs if (epoch := starts_too_late(config)) is not None]
    if found:
        names = ", ".join(sorted({config.pruner.name for config, _ in found}))
        yield (
            f"{len(found)} of {sum(map(prunes, configs))} pruned cells are pruned in one step, in epoch "
            f"{min(epoch for _, epoch in found)}: {names} would begin at pruner.start, by default the first selection, "
            "and that is not before pruner.end; set it, or lower select_every or warmup_epochs"
        )


def _idle(spec: SweepSpec, configs: list[CellConfig]) -> Iterator[str]:
    """Methods that the grid names and no cell uses."""
    why = {
        "pruner": "every prune_rate is 0",
        "selector": "every coreset_ratio is 1",
        "preservation": "it acts on coresets, and every coreset_ratio is 1",
    }
    for kind, reason in why.items():
        named, used = ({getattr(cell, kind).name for cell in cells} for cells in (spec.listed, configs))
        if named - {"none"} and used == {"none"}:
            yield f"{kind} {', '.join(sorted(named - {'none'}))} does nothing: {reason}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def executed(flop: float, alone: float) -> str:
    """Dense FLOP of training, selection and evaluation, of what all cells would execute with each of them alone."""
    saved = f" ({alone / flop:.2f} times less than each cell alone)" if flop else ""
    return f"{_flop(flop)} of {_flop(alone)}{saved}"


def _flop(flop: float | None) -> str:
    if flop is None:
        return "unknown without torch"
    for size, unit in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if flop >= size:
            return f"{flop / size:,.0f} {unit}" if flop >= 100 * size else f"{flop / size:.3g} {unit}"
    return f"{flop:.0f} FLOP"
