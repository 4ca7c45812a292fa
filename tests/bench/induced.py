"""Collapse events that are induced in real training: are they found, and told apart?

    python -m tests.bench.induced [SEEDS] [WORKERS]

Digits, a small CNN, RigL at prune rate 0.8 with five mask updates per interval, EL2N at coreset ratio 0.2, over all
samples or by class quota, T = 60, R = 5. From one checkpoint ahead of a switch, with a class chosen: its row of the
classifier is zeroed and masked, with its momentum ("weights"); its samples are barred for one interval ("samples");
"both"; "neither". And what a single treatment can lose for good: the row stays masked to the end ("held"), or it is
zeroed and the samples are barred to the end ("barred"). The controls beside a joint run are those with the same
intervention, as far as they can have it: weights and held the pruned, samples and barred the coreset one.

A label is what was measured in a run's class recalls (running medians of three epochs), not what was done. An event: a
class falls by ``FALLEN`` in the period after a switch. Transient: at the horizon no class is down by more than
``STANDING``; lasting: one is by ``LASTING``, and single where a control has lost half as much of that class. No event:
no class falls by more than ``STANDING``, nor the mean recall by ``STANDING_MEAN``. Runs between are undecided; they are
counted and not scored.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from typing_extensions import override

from analysis.collapse import collapse_events
from analysis.runs import validate_history, validate_runs
from core.config import CellConfig
from core.coresets.el2n import EL2N
from core.data.bundle import Bundle
from core.data.digits import Digits
from core.data.load import load_bundle
from core.events import Event, MaskChanged
from core.models.small_cnn import SmallCnn
from core.pruning.pruner import Moment
from core.pruning.rigl import RigL
from core.pruning.schedule import PerInterval
from core.state import dump, load
from core.trainer import Pass, Trainer
from orchestration.history import history_row
from tests.analysis.generated_histories import Generated, Label
from tests.bench.collapse import Found, show

Floats: TypeAlias = NDArray[np.float64]
Row: TypeAlias = Mapping[str, Any]
Part: TypeAlias = tuple[dict[int, bytes], list[Row]]
EPOCHS, WARMUP, PERIOD = 60, 10, 5
PRUNE_RATE, CORESET_RATIO = 0.8, 0.2
SELECTORS = {"global": EL2N(), "quota": EL2N(balanced=True)}
CASES = ((30, 1), (35, 4), (40, 8))
"""Switch, and the class that loses there; the class moves on by one from seed to seed."""
ROLES = ("dense", "prune", "coreset", "joint")
COLUMNS = (
    *("epoch", "accuracy_test", "coreset_size", "switch", "samples_removed", "samples_added", "weights_removed"),
    *("weights_grown", "dead_layers", "loss_train", "lr", "density"),
)
FALLEN, LASTING, STANDING, STANDING_MEAN = 0.6, 0.5, 0.3, 0.02


@dataclass(frozen=True)
class Loss:
    """What is taken from a class from ``epoch`` on: its row of the classifier, and its samples.

    ``held``, ``barred``: for how many epochs the row stays masked and the samples stay away.
    """

    epoch: int
    label: int
    row: bool
    held: int = 0
    barred: int = 0

    def holds(self, epoch: int) -> bool:
        """Whether the row is masked again whenever it has grown."""
        return self.epoch <= epoch < self.epoch + self.held

    def bars(self, epoch: int) -> bool:
        """Whether the class has no samples."""
        return self.epoch <= epoch < self.epoch + self.barred


ARMS: Mapping[str, Callable[[int, int], Loss]] = {
    "weights": lambda switch, label: Loss(switch, label, row=True),
    "samples": lambda switch, label: Loss(switch, label, row=False, barred=PERIOD),
    "both": lambda switch, label: Loss(switch, label, row=True, barred=PERIOD),
    "held": lambda switch, label: Loss(switch, label, row=True, held=EPOCHS),
    "barred": lambda switch, label: Loss(switch, label, row=True, barred=EPOCHS),
}
PRUNED = {"weights": "weights", "both": "weights", "held": "held"}
FEWER = {"samples": "samples", "both": "samples", "barred": "barred"}
"""By arm of the joint run: what is done to its pruned and to its coreset control."""


@dataclass(frozen=True)
class Run:
    """One trained run: its history rows from epoch 1, and its recalls by (epoch, class)."""

    arm: str
    rows: tuple[Row, ...]

    @property
    def recalls(self) -> Floats:
        """Per class, on the test set."""
        return np.array([row["accuracy_class"] for row in self.rows])


@dataclass(frozen=True)
class Table:
    """Four runs of a seed that are looked at together. ``new``: the roles that no table before held."""

    name: str
    seed: int
    n_test: int
    runs: Mapping[str, Run]
    new: frozenset[str]


class Induced(Trainer):
    """A run that is hurt once."""

    loss: Loss

    @override
    def _train(self, epoch: int) -> Generator[Event, None, Pass]:
        if self.loss.bars(epoch):
            self.index_M = self.index_M[self.bundle.train.labels[self.index_M] != self.loss.label]
        if self.loss.row and epoch == self.loss.epoch:
            self._lose_row()
        return (yield from super()._train(epoch))

    @override
    def _prune(self, moment: Moment, batch: int) -> MaskChanged | None:
        change = super()._prune(moment, batch)
        if change is not None and self.loss.holds(moment.epoch):
            self._lose_row()
            self.masking.hold()
        return change

    def _lose_row(self) -> None:
        name = self.network.classifier_weight
        weight = self.network.weights[name]
        for values in (weight.detach(), self._momentum(weight)):
            if values is not None:
                values[self.loss.label] = 0
        if self.masking.active:
            mask = self.masking.mask[name].clone()
            mask[self.loss.label] = False
            self.masking._change({name: mask})


# --- training ------------------------------------------------------------------------------------------------------


def cell(role: str, selector: str, seed: int) -> CellConfig:
    """The run of a role; ``selector`` names one of ``SELECTORS``."""
    common: dict[str, Any] = {"model": SmallCnn(width=16), "epochs": EPOCHS, "seed": seed}
    common |= {"warmup_epochs": WARMUP, "select_every": PERIOD}
    if role in ("prune", "joint"):
        common |= {"pruner": RigL(allocation="erk", update_every=PerInterval(per_interval=5)), "prune_rate": PRUNE_RATE}
    if role in ("coreset", "joint"):
        common |= {"selector": SELECTORS[selector], "coreset_ratio": CORESET_RATIO}
    return CellConfig(**common)


def trunk(config: CellConfig, bundle: Bundle) -> Part:
    """The unhurt run: its states ahead of the switches of ``CASES``, and all of its rows."""
    trainer, states = Trainer(config, bundle), dict[int, bytes]()
    rows: list[Row] = []
    for epoch in range(1, EPOCHS + 1):
        if epoch in {switch for switch, _ in CASES}:
            states[epoch] = dump(trainer.state())
        rows.append(history_row(list(trainer.events(until=epoch))))
    return states, rows


def branch(config: CellConfig, bundle: Bundle, state: bytes, before: Sequence[Row], loss: Loss) -> tuple[Row, ...]:
    """The rows of a run that is hurt at a switch."""
    trainer = Induced(config, bundle)
    trainer.loss = loss
    trainer.restore(load(state))
    after = [history_row(list(trainer.events(until=epoch))) for epoch in range(loss.epoch, EPOCHS + 1)]
    return (*before[: loss.epoch - 1], *after)


@dataclass(frozen=True)
class Trunks:
    """The unhurt runs of a seed and selector, by role: states ahead of the switches, and rows."""

    selector: str
    seed: int
    bundle: Bundle
    parts: Mapping[str, Part]

    def whole(self, role: str) -> Run:
        """To the end, unhurt."""
        return Run("neither", tuple(self.parts[role][1]))

    def hurt(self, role: str, arm: str, switch: int, label: int) -> Run:
        """As the arm has it."""
        config, (states, rows) = cell(role, self.selector, self.seed), self.parts[role]
        return Run(arm, branch(config, self.bundle, states[switch], rows, ARMS[arm](switch, label)))


def tables_of(seed: int) -> list[Table]:
    """Every table of a seed."""
    torch.set_num_threads(1)
    bundle = load_bundle(Digits(val_fraction=0.0))
    cases = [(switch, (label + seed) % bundle.num_classes) for switch, label in CASES]
    shared = {role: trunk(cell(role, "global", seed), bundle) for role in ("dense", "prune")}
    first = Trunks("global", seed, bundle, shared)
    pruned = {case: {arm: first.hurt("prune", arm, *case) for arm in set(PRUNED.values())} for case in cases}
    out: list[Table] = []
    for selector in SELECTORS:
        own = {role: trunk(cell(role, selector, seed), bundle) for role in ("coreset", "joint")}
        trunks = Trunks(selector, seed, bundle, shared | own)
        runs = {role: trunks.whole(role) for role in ROLES}
        out.append(Table(f"{selector}-neither", seed, len(bundle.test), runs, frozenset(own if out else ROLES)))
        for case, prune in pruned.items():
            out += _hurt(trunks, case, runs, prune)
    return out


def _hurt(
    trunks: Trunks, case: tuple[int, int], whole: Mapping[str, Run], pruned: Mapping[str, Run]
) -> Iterator[Table]:
    """A table for each arm: the joint run, and each control with what it can have of the arm."""
    fewer = {arm: trunks.hurt("coreset", arm, *case) for arm in set(FEWER.values())}
    for arm in ARMS:
        runs = {"dense": whole["dense"], "joint": trunks.hurt("joint", arm, *case)}
        runs |= {"prune": pruned[PRUNED[arm]] if arm in PRUNED else whole["prune"]}
        runs |= {"coreset": fewer[FEWER[arm]] if arm in FEWER else whole["coreset"]}
        new = {"joint", *(["coreset"] if arm in ("samples", "barred") else [])}
        if arm in ("weights", "held") and trunks.selector == next(iter(SELECTORS)):
            new.add("prune")
        yield Table(f"{trunks.selector}-{arm}-{case[0]}", trunks.seed, len(trunks.bundle.test), runs, frozenset(new))


# --- what was measured ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fall:
    """A class fell in the period after a switch. At the horizon ``label`` is furthest below its level, by ``left``."""

    epoch: int
    label: int
    left: float


def smooth(values_TC: Floats) -> Floats:
    """Running median of three epochs; the ends as they are."""
    out = values_TC.copy()
    out[1:-1] = np.median(np.stack([values_TC[:-2], values_TC[1:-1], values_TC[2:]]), axis=0)
    return out


def switches() -> range:
    """The epochs at whose start a coreset is selected."""
    return range(WARMUP + PERIOD, EPOCHS + 1, PERIOD)


def falls(recall_TC: Floats) -> tuple[list[Fall], bool]:
    """The falls of a run, the next only after one is over; and whether what else happened leaves doubt."""
    level_TC, found, over, doubt = smooth(recall_TC), list[Fall](), 0, False
    for switch in range(WARMUP + PERIOD, EPOCHS + 1, PERIOD):
        if switch < over:
            continue
        lost_TC = (np.median(recall_TC[switch - 4 : switch - 1], axis=0) - level_TC)[switch - 1 :]
        worst_T, mean_T = lost_TC.max(axis=1), lost_TC.mean(axis=1)
        if worst_T[:PERIOD].max() < FALLEN:
            doubt |= bool(worst_T[:PERIOD].max() > STANDING or mean_T[:PERIOD].max() > STANDING_MEAN)
            continue
        last_C = lost_TC[min(switch + 2 * PERIOD, EPOCHS) - switch]
        found.append(Fall(switch, int(last_C.argmax()), float(last_C.max())))
        doubt |= bool(STANDING < last_C.max() < LASTING)
        back = np.flatnonzero(worst_T[worst_T[:PERIOD].argmax() :] <= STANDING)
        over = switch + int(worst_T[:PERIOD].argmax()) + int(back[0]) if back.size else EPOCHS + 1
    return found, doubt


def truths(table: Table, role: str) -> tuple[list[tuple[str, int]], bool]:
    """Kind and epoch of each event of a run, and whether it is to be left out."""
    found, doubt = falls(table.runs[role].recalls)
    return [(_kind(table, role, fall), fall.epoch) for fall in found], doubt


def _kind(table: Table, role: str, fall: Fall) -> str:
    if fall.left <= STANDING:
        return "transient"
    if role != "joint":
        return "single_loss"
    horizon = min(fall.epoch + 2 * PERIOD, EPOCHS)
    shared = max(_lost(table.runs[control].recalls, fall, horizon) for control in ("prune", "coreset"))
    return "single_loss" if shared >= fall.left / 2 else "critical_double_loss"


def _lost(recall_TC: Floats, fall: Fall, horizon: int) -> float:
    """What a control has lost of the class by the horizon."""
    ahead = np.median(recall_TC[fall.epoch - 4 : fall.epoch - 1, fall.label])
    return float(ahead - smooth(recall_TC)[horizon - 1, fall.label])


# --- scored --------------------------------------------------------------------------------------------------------


def frames(tables: Sequence[Table]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and histories; each table is a data set of its own, so that its runs are compared with one another alone."""
    runs, history = [], []
    for table in tables:
        for role, run in table.runs.items():
            pruned, few = role in ("prune", "joint"), role in ("coreset", "joint")
            name = f"{table.seed}-{table.name}-{role}"
            row = {"cell_id": name, "sweep": "induced", "seed": table.seed, "data": f"{table.seed}-{table.name}"}
            row |= {"model": "small_cnn", "pruner": "rigl" if pruned else "none", "preservation": "none"}
            row |= {"selector": "el2n" if few else "none", "prune_rate": PRUNE_RATE * pruned, "status": "finished"}
            row |= {"coreset_ratio": CORESET_RATIO if few else 1.0, "epochs": EPOCHS, "chance": 0.1}
            runs.append(row | {"accuracy_test": run.rows[-1]["accuracy_test"], "n_test": table.n_test})
            history += [{"cell_id": name} | {column: at[column] for column in COLUMNS} for at in run.rows]
    return validate_runs(pd.DataFrame(runs)), validate_history(pd.DataFrame(history))


def scored(tables: Sequence[Table]) -> tuple[Generated, Found, Counter[str]]:
    """Labels of all runs, each once; the events found in them; and how many runs were made of each kind."""
    labels, left_out, made = [], set(), Counter[str]()
    for table in tables:
        for role in table.runs:
            name = f"{table.seed}-{table.name}-{role}"
            happened, doubt = truths(table, role)
            if doubt or role not in table.new:
                left_out.add(name)
                made["undecided"] += doubt and role in table.new
                continue
            made[f"{role}, {table.runs[role].arm}"] += 1
            labels += [Label(name, kind, epoch, np.nan, np.nan) for kind, epoch in happened]
    runs, history = frames(tables)
    events: Found = [(e.cell_id, e.kind, e.epoch) for e in collapse_events(runs, history) if e.cell_id not in left_out]
    period = dict.fromkeys(runs["cell_id"], PERIOD)
    kept = runs[~runs["cell_id"].isin(left_out)]
    return Generated(kept, history, tuple(labels), period, dict.fromkeys(runs["cell_id"], "induced")), events, made


def main() -> None:
    """Print the table, the false alarms and what was run."""
    seeds, workers = (int(word) for word in (sys.argv[1:] + ["12", "2"][len(sys.argv) - 1 :]))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        tables = list(chain.from_iterable(pool.map(tables_of, range(seeds))))
    made, events, counts = scored(tables)
    show([("real", made, events)])
    print("Runs: " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) + ".")


if __name__ == "__main__":
    main()
