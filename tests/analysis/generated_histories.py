"""Histories with known events, drawn by seed: what a detector of collapse is scored on.

A case is one small experiment: dense, prune-only, coreset-only and joint runs of one to five
seeds with one thing happening to them. Labels say to which run, when, and of which kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.runs import validate_history, validate_runs

CHANCE = 0.1
ROLES = ("dense", "prune_only", "coreset_only", "joint")
Rng = np.random.Generator


@dataclass(frozen=True)
class Label:
    """What happened to one run, and at the beginning of which epoch."""

    cell_id: str
    kind: str
    epoch: int
    depth: float
    noise: float


@dataclass(frozen=True)
class Generated:
    """Validated tables, their labels, and R by run."""

    runs: pd.DataFrame
    history: pd.DataFrame
    labels: tuple[Label, ...]
    period: dict[str, int]
    scenario: dict[str, str]


@dataclass
class Run:
    """One run while it is made: expected accuracy and columns by epoch."""

    cell_id: str
    role: str
    seed: int
    accuracy: np.ndarray
    columns: dict[str, np.ndarray]
    dead: int = 0
    diverged: int = 0


@dataclass
class Case:
    """One experiment while it is made."""

    name: str
    rng: Rng
    noise: float
    epochs: int
    period: int
    warmup: int
    shrinking: bool = False
    holes: bool = False
    runs: list[Run] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    @property
    def switches(self) -> list[int]:
        return list(range(self.warmup + 1, self.epochs + 1, self.period))

    @property
    def early(self) -> list[int]:
        """Switches whose horizon lies within the run."""
        return [s for s in self.switches if s + 2 * self.period <= self.epochs]

    def of(self, role: str, seed: int) -> Run:
        return next(run for run in self.runs if run.role == role and run.seed == seed)

    def label(self, run: Run, kind: str, epoch: int, depth: float) -> None:
        self.labels.append(Label(run.cell_id, kind, epoch, depth, self.noise))


def rise(epochs: int, top: float, tau: float) -> np.ndarray:
    """A learning curve from chance to ``top``."""
    return top - (top - CHANCE) * np.exp(-np.arange(1, epochs + 1) / tau)


def base(case: Case, seeds: int) -> None:
    """Healthy runs: coreset runs follow the dense curve to the first switch, then a slightly lower one."""
    rng, switches = case.rng, case.switches
    top, tau = rng.uniform(0.6, 0.98), rng.uniform(0.8, 0.35 * case.warmup + 0.8)
    gap = dict(zip(ROLES, (0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.01), rng.uniform(0, 0.015)), strict=True))
    for seed in range(seeds):
        shift = rng.normal(0, 0.004)
        for role in ROLES:
            curve = rise(case.epochs, top + shift, tau)
            late = np.arange(1, case.epochs + 1) >= switches[0]
            curve = curve - gap[role] * (late if "coreset" in role or role == "joint" else (curve - CHANCE) / top)
            case.runs.append(Run(f"{case.name}-{role}-{seed}", role, seed, curve, columns(case, role)))


def columns(case: Case, role: str) -> dict[str, np.ndarray]:
    """The counts of one run."""
    at = np.isin(np.arange(1, case.epochs + 1), case.switches)
    reduced, pruned = role in ("coreset_only", "joint"), role in ("prune_only", "joint")
    samples = np.where(at & reduced, case.rng.integers(20, 400, case.epochs), 0)
    weights = case.rng.integers(50, 5000, case.epochs) if pruned else np.zeros(case.epochs, int)
    return {
        "switch": at & reduced,
        "samples_removed": samples,
        "samples_added": samples,
        "weights_removed": weights,
        "weights_grown": weights,
    }


def lose(run: Run, epoch: int, depth: float, back: np.ndarray | float = 0.0) -> None:
    """Lower the run from ``epoch`` on by ``depth`` · (1 − back), never far below chance."""
    left = len(run.accuracy) - epoch + 1
    share = np.broadcast_to(back, left) if np.isscalar(back) else np.asarray(back)[:left]
    run.accuracy[epoch - 1 :] = np.maximum(run.accuracy[epoch - 1 :] - depth * (1 - share), CHANCE)


def depth_of(case: Case) -> float:
    """Log-uniform between 8 and 50 points, well within what there is to lose."""
    return float(np.exp(case.rng.uniform(np.log(0.08), np.log(0.5))))


def healthy(case: Case, seed: int, s: int) -> None:
    """Nothing happens."""


def small_dips(case: Case, seed: int, s: int) -> None:
    """Every coreset run loses a point at each switch and regains it at once."""
    for role in ("coreset_only", "joint"):
        run = case.of(role, seed)
        for epoch in case.switches:
            lose(run, epoch, 0.01, 1 - 0.3 ** np.arange(len(run.accuracy)))


def transient(case: Case, seed: int, s: int) -> None:
    run, depth = case.of("joint", seed), depth_of(case)
    after = np.arange(len(run.accuracy))
    quick = case.rng.random() < 0.5
    length = case.rng.integers(2, case.period + 1)
    lose(run, s, depth, np.where(after < length, 0.0, 1.0) if quick else 1 - np.exp(-after / (0.6 * case.period)))
    case.label(run, "transient", s, depth)


def double(case: Case, seed: int, s: int) -> None:
    run, depth = case.of("joint", seed), depth_of(case)
    lose(run, s, depth, case.rng.uniform(0, 0.3) * (1 - np.exp(-np.arange(len(run.accuracy)) / case.period)))
    case.label(run, "critical_double_loss", s, depth)


def stall(case: Case, seed: int, s: int) -> None:
    """The joint run stays where it was at its first switch while all others go on by at least 10 points."""
    first, rising = case.switches[0], case.rng.uniform(0.1, 0.3)
    ramp = np.clip((np.arange(1, case.epochs + 1) - first + 1) / (case.period - 1), 0, 1) * rising
    for role in ROLES:
        run = case.of(role, seed)
        run.accuracy = (run.accuracy - CHANCE) * (0.9 - rising) + CHANCE
        if role != "joint":
            run.accuracy = run.accuracy + ramp
    case.label(case.of("joint", seed), "critical_double_loss", first, rising)


def slow_decline(case: Case, seed: int, s: int) -> None:
    run = case.of("joint", seed)
    depth = case.rng.uniform(0.25, 0.5)
    length = case.rng.uniform(1.5, 2.5) * case.period
    lose(run, s, depth, 1 - np.clip((np.arange(len(run.accuracy)) + 1) / length, 0, 1))
    case.label(run, "critical_double_loss", s, depth)


def sparse(case: Case, seed: int, s: int) -> None:
    run, depth = case.of("joint", seed), depth_of(case)
    case.holes = False  # a count that is not known is not zero: no such case could be told
    run.columns["weights_removed"] = np.where(np.arange(1, case.epochs + 1) < case.warmup, 100, 0)
    lose(run, s, depth)
    case.label(run, "sparse_capacity", s, depth)


def single(case: Case, seed: int, s: int, role: str) -> None:
    """A control falls, and the joint run with it, at once or one switch later."""
    depth, later = depth_of(case), case.rng.random() < 0.4
    control, joint = case.of(role, seed), case.of("joint", seed)
    joint_at = s + case.period * later
    lose(control, s, depth)
    lose(joint, joint_at, depth * case.rng.uniform(0.9, 1.25))
    case.label(control, "single_loss", s, depth)
    case.label(joint, "single_loss", joint_at, depth)


def single_prune(case: Case, seed: int, s: int) -> None:
    single(case, seed, s, "prune_only")


def single_coreset(case: Case, seed: int, s: int) -> None:
    single(case, seed, s, "coreset_only")


def divergence(case: Case, seed: int, s: int) -> None:
    run = case.of("joint", seed)
    run.diverged = int(s + case.rng.integers(0, case.period))
    case.label(run, "divergence", run.diverged, 0.5)


def layer_collapse(case: Case, seed: int, s: int) -> None:
    run, depth = case.of("joint", seed), depth_of(case)
    run.dead = s
    lose(run, s, depth)
    case.label(run, "layer_collapse", s, depth)


def launch(case: Case, seed: int, s: int) -> None:
    """All are at chance until the first switch; the joint run stays there."""
    first = case.switches[0]
    start = np.arange(1, case.epochs + 1) < first + case.rng.integers(0, 2)
    for role in ROLES:
        run = case.of(role, seed)
        later = np.concatenate([np.full(start.sum(), CHANCE), run.accuracy])[: case.epochs]
        run.accuracy = np.full(case.epochs, CHANCE) if role == "joint" else later
    case.label(case.of("joint", seed), "critical_double_loss", first, 0.5)


def orphan(case: Case, seed: int, s: int) -> None:
    """A double loss whose controls were never run."""
    run, depth = case.of("joint", seed), depth_of(case)
    lose(run, s, depth)
    case.label(run, "unattributed", s, depth)
    case.runs = [r for r in case.runs if r.seed != seed or r.role in ("dense", "joint")]


SCENARIOS: dict[str, Callable[[Case, int, int], None]] = {
    "healthy": healthy,
    "small dips": small_dips,
    "transient": transient,
    "double loss": double,
    "stall": stall,
    "slow decline": slow_decline,
    "sparse capacity": sparse,
    "single loss, prune": single_prune,
    "single loss, coreset": single_coreset,
    "divergence": divergence,
    "layer collapse": layer_collapse,
    "never launched": launch,
    "no controls": orphan,
}


def generate(cases: int, noise: tuple[float, float], seed: int = 0) -> Generated:
    """``cases`` of each scenario; the noise's standard deviation is uniform between the two, as a fraction.

    A third of the cases have noise that shrinks with the learning rate (``noise`` at its start),
    a third lack one row in fifteen.
    """
    runs: list[dict[str, Any]] = []
    history: list[pd.DataFrame] = []
    labels: list[Label] = []
    period: dict[str, int] = {}
    scenario: dict[str, str] = {}
    for number, (name, happen) in enumerate(SCENARIOS.items()):
        for k in range(cases):
            case = _case(f"{number:02d}{k:04d}", np.random.default_rng([seed, number, k]), noise)
            base(case, int(case.rng.integers(1, 6)))
            for one in sorted({run.seed for run in case.runs}):
                happen(case, one, int(case.rng.choice(case.early)))
            for run in case.runs:
                row, rows = _written(case, run)
                runs.append(row)
                history.append(rows)
                period[run.cell_id], scenario[run.cell_id] = case.period, name
            labels += case.labels
    table = validate_history(pd.concat(history, ignore_index=True))
    return Generated(validate_runs(pd.DataFrame(runs)), table, tuple(labels), period, scenario)


def _case(name: str, rng: Rng, noise: tuple[float, float]) -> Case:
    period = int(rng.integers(4, 9))
    warmup = int(rng.integers(4, 11))
    epochs = warmup + period * int(rng.integers(5, 8))
    return Case(
        name, rng, float(rng.uniform(*noise)), epochs, period, warmup, rng.random() < 1 / 3, rng.random() < 1 / 3
    )


def _written(case: Case, run: Run) -> tuple[dict[str, Any], pd.DataFrame]:
    at = np.arange(1, case.epochs + 1)
    lr = 0.5 * (1 + np.cos(np.pi * (at - 1) / case.epochs))
    sd = case.noise * (lr if case.shrinking else 1.0)
    accuracy = np.clip(run.accuracy + case.rng.normal(0, 1, case.epochs) * sd, 0, 1)
    rows = pd.DataFrame(
        {"cell_id": run.cell_id, "epoch": at, "accuracy_test": accuracy, "coreset_size": 100, "lr": lr, **run.columns}
    )
    rows["loss_train"], rows["dead_layers"] = 0.5, np.where((run.dead > 0) & (at >= run.dead), 1, 0)
    if run.diverged:
        rows = rows[rows["epoch"] <= run.diverged].copy()
        rows.loc[rows["epoch"] == run.diverged, ["loss_train", "accuracy_test"]] = [np.nan, CHANCE]
    if case.holes:
        keep = (case.rng.random(len(rows)) > 1 / 15) | (rows["epoch"] == run.diverged)
        rows = rows[keep]
    return _row(case, run, accuracy), rows


def _row(case: Case, run: Run, accuracy: np.ndarray) -> dict[str, Any]:
    pruned, reduced = run.role in ("prune_only", "joint"), run.role in ("coreset_only", "joint")
    return {
        "cell_id": run.cell_id,
        "sweep": "generated",
        "seed": run.seed,
        "data": case.name,
        "model": "mlp",
        "pruner": "rigl" if pruned else "none",
        "selector": "el2n" if reduced else "none",
        "preservation": "none",
        "prune_rate": 0.9 * pruned,
        "coreset_ratio": 0.1 if reduced else 1.0,
        "status": "finished",
        "reason": "diverged" if run.diverged else None,
        "epochs": case.epochs,
        "accuracy_test": CHANCE if run.diverged else accuracy[-1],
        "chance": CHANCE,
    }


@dataclass(frozen=True)
class Score:
    """Counts of one kind: labelled, predicted, and matched (same run and kind, epoch within ± 1 switch)."""

    kind: str
    labelled: int
    predicted: int
    matched: int

    @property
    def precision(self) -> float:
        return self.matched / self.predicted if self.predicted else float("nan")

    @property
    def recall(self) -> float:
        return self.matched / self.labelled if self.labelled else float("nan")


def scores(made: Generated, events: list[tuple[str, str, int]]) -> list[Score]:
    """(cell_id, kind, epoch) of events against the labels, by kind."""
    out = []
    for kind in sorted({label.kind for label in made.labels} | {kind for _, kind, _ in events}):
        wanted = {(label.cell_id, label.epoch) for label in made.labels if label.kind == kind}
        said = [(cell, epoch) for cell, what, epoch in events if what == kind]
        hits = {w for w in wanted if any(c == w[0] and abs(e - w[1]) <= made.period[c] for c, e in said)}
        true = [s for s in said if any(c == s[0] and abs(e - s[1]) <= made.period[c] for c, e in wanted)]
        out.append(Score(kind, len(wanted), len(said), min(len(hits), len(true))))
    return out


def false_alarms(made: Generated, events: list[tuple[str, str, int]]) -> tuple[int, int]:
    """(runs with an event, runs) among those to which nothing happened."""
    quiet = set(made.runs["cell_id"]) - {label.cell_id for label in made.labels}
    return len(quiet & {cell for cell, _, _ in events}), len(quiet)
