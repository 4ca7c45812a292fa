"""Made histories with known events, a second time: the half of the detection benchmark that was held out.

    python -m tests.bench.heldout [TABLES]

TABLES (30) of each scenario and each level of noise, scored as tests/bench/collapse.py scores its own.

Written from the definitions alone (events, kinds, controls and statuses: "Collapse events in one run" in the analysis
notes), before its author had seen the detector or the first generator, so that neither could be fitted to the other.
The noise estimate was changed after its errors had been looked at: it is development data since.

One table holds the four runs of a joint cell (dense, prune-only, coreset-only, joint) for one to five seeds. A clean
course is a learning curve on the above-chance scale (stretched exponential or Hill curve in logit space, or a power
law of the error); runs share it until they differ, as runs do: weights are pruned from the start, samples left out
from the first selection. Coreset runs dip a little at their switches. What is measured has AR(1) noise of training and
the binomial noise of a finite evaluation set, of which only a part (``churn``) is drawn anew in each epoch.

The label is what was made. Draws near the definitions' thresholds are made again, so that no label is a matter of
taste, with these margins on the clean course: an event exceeds max(min_drop, z · noise) ``MARGIN``-fold in the period
after its switch; where nothing was made, no gap exceeds ``QUIET``; what lasts keeps 70 % of its gap at the horizon,
what passes 25 % at the most; of a single loss the smaller drop is at least 75 % of the larger. Noise is the declared
standard deviation, or the binomial one where the table tells n and that is larger.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.collapse import collapse_events
from analysis.runs import validate_history, validate_runs
from tests.analysis.generated_histories import Generated, Label
from tests.bench.collapse import Found, show

Floats: TypeAlias = NDArray[np.float64]
Role: TypeAlias = Literal["dense", "prune", "coreset", "joint"]
Courses: TypeAlias = dict[Role, Floats]
"""Clean accuracy per epoch, 0-based: epoch t is at t - 1."""

ROLES: tuple[Role, ...] = ("dense", "prune", "coreset", "joint")
PERIODS = (3, 4, 5, 6, 8, 10)
BANDS = {"0.05 to 0.3": (0.0005, 0.003), "0.3 to 1": (0.003, 0.01), "1 to 2": (0.01, 0.02)}
"""Standard deviation of the noise; the names are in points."""
MIN_DROP, Z = 0.03, 5.0
MARGIN, QUIET = 1.6, 0.02
LASTS, PASSES, ALIKE = 0.7, 0.25, 0.75
TRIES = 4000


@dataclass(frozen=True)
class Truth:
    """An event that was made. ``epoch`` counts from 1."""

    kind: str
    epoch: int


@dataclass(frozen=True)
class Made:
    """One labelled table. ``truths`` names the runs with an event; every other run of the table has none."""

    scenario: str
    band: str
    period: int
    runs: pd.DataFrame
    history: pd.DataFrame
    truths: Mapping[str, Truth]


@dataclass(frozen=True)
class Setting:
    """What the runs of a table share.

    ``noise``: standard deviation, at its largest. ``correlation``: of the AR(1) part. ``churn``: the share of the
    evaluation samples that is drawn anew in every epoch. ``told``: the tables name n_val and n_test.
    ``pruner``: ``rigl`` (moves weights in every epoch), ``gmp`` (only removes, from the first selection) or ``snip``
    (once, before training); ``moves_until`` is the share of the epochs after which the mask is frozen. ``spread``: how
    much the runs differ, of what is usual.
    """

    epochs: int
    period: int
    warmup: int
    classes: int
    top: float
    n_eval: int
    told: bool
    noise: float
    shape: Literal["flat", "rate", "binomial"]
    correlation: float
    churn: float
    form: Literal["stretched", "hill", "power"]
    tau: float
    bend: float
    pruner: Literal["rigl", "gmp", "snip"]
    prune_rate: float
    coreset_ratio: float
    moves_until: float
    skip: bool = False
    spikes: bool = False
    spread: float = 1.0

    @property
    def chance(self) -> float:
        """Of equally large classes."""
        return 1 / self.classes

    @property
    def switches(self) -> tuple[int, ...]:
        """The epochs at whose start the coreset is selected."""
        first = self.warmup + 1 if self.skip else (self.warmup // self.period + 1) * self.period
        return tuple(range(first, self.epochs + 1, self.period))


@dataclass(frozen=True)
class Loss:
    """What is done to one run's course.

    ``depth``: accuracy lost at ``epoch`` (``decline``: in each period). ``ramp``: epochs until all of it is lost.
    ``hold``: epochs that it stays. ``back``: time constant, in epochs, of the return after ``hold``.
    """

    kind: str
    epoch: int
    depth: float = 0.0
    form: Literal["drop", "decline", "stall", "unlearnt", "gone", "nan", "explosion"] = "drop"
    ramp: int = 0
    hold: float = np.inf
    back: float = 1.0

    def lost(self, ages: Floats) -> Floats:
        """The part of ``depth`` that is lost at each age in epochs, in [0, 1]."""
        rise = np.clip((ages + 1) / (self.ramp + 1), 0, 1)
        return rise * np.exp(-np.clip(ages - self.hold, 0, None) / self.back)


Plan: TypeAlias = Mapping[Role, Loss]
Maker: TypeAlias = Callable[[np.random.Generator, "Setting"], tuple["Setting", Plan]]


def generate(each: int, seed: int = 20_251) -> list[Made]:
    """``each`` tables of every scenario and band of noise."""
    numbered = enumerate(product(SCENARIOS, BANDS, range(each)))
    return [make(name, band, np.random.default_rng((seed, n))) for n, (name, band, _) in numbered]


def make(scenario: str, band: str, rng: np.random.Generator) -> Made:
    """One table, drawn until no label is a matter of taste."""
    seeds = int(rng.integers(1, 6))
    roles = ROLES[3:] if scenario == "no controls" else ROLES
    for attempt in range(TRIES):
        spread = 0.995**attempt  # how much the runs differ, smaller where quiet tables are rare
        setting, plan = SCENARIOS[scenario](rng, draw_setting(rng, band))
        hit = rng.random(seeds) < 0.7
        hit[rng.integers(seeds)] = True
        courses = [draw_courses(rng, setting, plan if on else {}, spread) for on in hit]
        plans: list[Plan] = [plan if on else {} for on in hit]
        if all(clear(c, setting, own, roles) for c, own in zip(courses, plans, strict=True)):
            cells = [
                Cell(setting, role, seed, courses[seed][role], plans[seed].get(role))
                for seed, role in product(range(seeds), roles)
            ]
            return written(rng, scenario, band, cells)
    raise RuntimeError(f"No clear table of {scenario!r} at noise {band} in {TRIES} draws; widen the scenario's ranges.")


# --- settings and courses ------------------------------------------------------------------------------------------


def draw_setting(rng: np.random.Generator, band: str) -> Setting:
    """Schedule, task, noise and methods of a table."""
    period = int(rng.choice(PERIODS))
    epochs = period * int(rng.integers(7, 15)) + int(rng.integers(0, period))
    classes = int(rng.choice([10, 10, 10, 20, 43, 100, 200]))
    top = rng.uniform(0.8, 0.985) if classes <= 43 else rng.uniform(0.5, 0.8)
    noise = float(rng.uniform(*BANDS[band]))
    n_eval = int(rng.choice([300, 500, 1000, 2000, 5000, 10_000]))
    return Setting(
        epochs=epochs,
        period=period,
        warmup=int(rng.integers(4, max(5, epochs // 3))),
        classes=classes,
        top=float(top),
        n_eval=n_eval,
        told=bool(rng.random() < 0.6),
        noise=noise,
        shape=("flat", "rate", "binomial")[rng.integers(3)],
        correlation=float(rng.uniform(0, 0.5)),
        churn=float(rng.uniform(0, 1) * min(1.0, 4 * n_eval * noise**2)),
        form=("stretched", "hill", "power")[rng.integers(3)],
        tau=float(rng.uniform(0.03, 0.15)),
        bend=float(rng.uniform(0.6, 1.3)),
        pruner=("rigl", "rigl", "gmp")[rng.integers(3)],
        moves_until=float(rng.choice([0.75, 1.0])),
        prune_rate=float(rng.choice([0.5, 0.8, 0.9, 0.95])),
        coreset_ratio=float(rng.choice([0.05, 0.1, 0.2, 0.5])),
    )


def draw_courses(rng: np.random.Generator, setting: Setting, plan: Plan, spread: float) -> Courses:
    """The clean courses of one seed's four runs, with what ``plan`` does to them."""
    spread = spread * setting.spread
    own = replace(setting, tau=setting.tau * np.exp(rng.normal(0, 0.05)))
    lift = rng.normal(0, 0.05)
    sparse, few = rng.uniform(-0.25, 0.05) * spread, rng.uniform(-0.4, 0.0) * spread
    both = sparse + few + rng.uniform(-0.15, 0.1) * spread
    slow = {"prune": 1 - 0.1 * rng.random() * spread, "coreset": 1 - 0.3 * rng.random() * spread}
    speed: dict[Role, tuple[float, float]] = {
        "dense": (1.0, 1.0),
        "prune": (slow["prune"], slow["prune"]),
        "coreset": (1.0, slow["coreset"]),
        "joint": (slow["prune"], slow["prune"] * slow["coreset"]),
    }
    shift: dict[Role, tuple[float, float]] = {
        "dense": (0.0, 0.0),
        "prune": (sparse, sparse),
        "coreset": (0.0, few),
        "joint": (sparse, both),
    }
    courses = {role: _learnt(own, speed[role], _shifted(own, shift[role], lift)) for role in ROLES}
    for role in ("coreset", "joint"):
        courses[role] = _small_dips(rng, setting, courses[role])
    return {role: _after(setting, courses[role], plan.get(role)) for role in ROLES}


def _learnt(setting: Setting, speed: tuple[float, float], shift: Floats) -> Floats:
    """A learning curve: ``speed`` before and from the first selection, ``shift`` of the logit per epoch."""
    epochs = np.arange(1, setting.epochs + 1)
    late = epochs >= setting.switches[0]
    age = np.cumsum(np.where(late, speed[1], speed[0])) / setting.epochs / setting.tau
    if setting.form == "power":
        reached = 1 - (1 + age) ** -setting.bend
        share = np.clip(_above(setting.top, setting.chance) * reached, 1e-4, 1 - 1e-4)
        logits = np.log(share / (1 - share))
    else:
        low, high = -5.0, _logit(_above(setting.top, setting.chance))
        hill = age ** (2 * setting.bend) / (1 + age ** (2 * setting.bend))
        reached = hill if setting.form == "hill" else 1 - np.exp(-(age**setting.bend))
        logits = low + (high - low) * reached
    annealed = 0.3 * np.clip((epochs / setting.epochs - 0.5) / 0.5, 0, 1) ** 2
    return _accuracy(logits + shift + annealed, setting.chance)


def _shifted(setting: Setting, shift: tuple[float, float], lift: float) -> Floats:
    """From one level to the other over two periods after the first selection."""
    ages = np.arange(1, setting.epochs + 1) - setting.switches[0] + 1
    part = np.clip(ages / (2 * setting.period), 0, 1)
    return lift + shift[0] + (shift[1] - shift[0]) * part


def _small_dips(rng: np.random.Generator, setting: Setting, course: Floats) -> Floats:
    """What a healthy run shows when its samples change: a point at most, gone within the period."""
    out = course.copy()
    for switch in setting.switches:
        if rng.random() < 0.5:
            ages = np.arange(setting.epochs) - (switch - 1)
            out -= np.where(ages >= 0, rng.uniform(0, 0.012) * np.exp(-ages.clip(0) / rng.uniform(0.3, 1.5)), 0)
    return np.clip(out, setting.chance, 1)


def _after(setting: Setting, course: Floats, loss: Loss | None) -> Floats:
    """``course`` with the loss in it."""
    if loss is None:
        return course
    ages = np.arange(setting.epochs, dtype=float) - (loss.epoch - 1)
    on = ages >= 0
    start = course[max(loss.epoch - 2, 0)]
    if loss.form in ("gone", "nan", "explosion"):
        part = loss.lost(ages.clip(0))
        return np.where(on, setting.chance + (course - setting.chance) * (1 - part), course)
    if loss.form == "unlearnt":
        return np.where(on, np.minimum(course, setting.chance + 0.005), course)
    if loss.form == "stall":
        return np.where(on, np.minimum(course, start + 0.1 * (course - start)), course)
    if loss.form == "decline":
        fallen = course - loss.depth * (ages + 1) / setting.period
        return np.where(on, np.maximum(fallen, setting.chance + 0.02), course)
    logits = _logit(_above(course, setting.chance))
    floor = _logit(_above(np.maximum(start - loss.depth, setting.chance + 1e-3), setting.chance))
    down = (_logit(_above(start, setting.chance)) - floor) * loss.lost(ages.clip(0))
    return np.where(on, _accuracy(logits - down, setting.chance), course)


def _above(accuracy: Floats | float, chance: float) -> Floats:
    return np.clip((np.asarray(accuracy) - chance) / (1 - chance), 1e-4, 1 - 1e-4)


def _logit(share: Floats) -> Floats:
    return np.log(share / (1 - share))


def _accuracy(logits: Floats, chance: float) -> Floats:
    return chance + (1 - chance) / (1 + np.exp(-logits))


# --- is the label beyond doubt? ------------------------------------------------------------------------------------


def clear(courses: Courses, setting: Setting, plan: Plan, roles: Sequence[Role]) -> bool:
    """Whether each run of a seed shows, without noise, what ``plan`` says and nothing else."""
    for role in roles:
        others: tuple[Role, ...] = () if role == "dense" else ROLES[:3] if role == "joint" else ("dense",)
        references = [courses[other] for other in others if other in roles]
        loss = plan.get(role)
        end = setting.epochs if loss is None else loss.epoch - 1
        quiet = [s for s in setting.switches if 4 <= s <= end]
        if any(_peak(courses[role], references, s, setting.period) > QUIET for s in quiet):
            return False
        if loss is not None and not _beyond_doubt(courses[role], references, setting, loss):
            return False
        if loss is not None and loss.kind == "critical_double_loss" and _shared(courses, setting, loss) > QUIET:
            return False
    lost = [_peak(courses[r], [courses["dense"]], x.epoch, setting.period) for r, x in plan.items() if x.form == "drop"]
    return len(lost) < 2 or min(lost) > ALIKE * max(lost)


def _shared(courses: Courses, setting: Setting, loss: Loss) -> float:
    """What the controls lose themselves at the switches from one period before to the horizon, measured there."""
    if loss.epoch <= 4:
        return 0.0
    horizon = min(loss.epoch + 2 * setting.period, setting.epochs)
    near = [s for s in setting.switches if max(4, loss.epoch - setting.period) <= s < horizon]
    return max(float(gap(courses[r], [courses["dense"]], s)[horizon - s]) for r in ROLES[1:3] for s in near)


def gap(course: Floats, references: Sequence[Floats], switch: int) -> Floats:
    """Expected course minus the median of 3, from the switch on (analysis notes), of clean courses."""
    ahead = slice(switch - 4, switch - 1)
    changes = [r[switch - 1 :] - np.median(r[ahead]) for r in references]
    rise = np.maximum(np.median(changes, axis=0), 0) if changes else 0.0
    padded = np.pad(course, 1, mode="edge")
    smooth = np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return np.median(course[ahead]) + rise - smooth[switch - 1 :]


def threshold(setting: Setting, accuracy: Floats | float) -> float:
    """What a drop must exceed: the declared noise, and the binomial one where n is told."""
    p = np.asarray(accuracy)
    binomial = float(np.sqrt(np.max(p * (1 - p)) / setting.n_eval)) if setting.told else 0.0
    return max(MIN_DROP, Z * max(setting.noise, binomial))


def _peak(course: Floats, references: Sequence[Floats], switch: int, period: int) -> float:
    return float(gap(course, references, switch)[:period].max())


def _beyond_doubt(course: Floats, references: Sequence[Floats], setting: Setting, loss: Loss) -> bool:
    if loss.form in ("nan", "explosion", "gone"):
        fallen = course[loss.epoch - 2] - setting.chance
        return bool(loss.epoch > 4 and fallen > 2 * MARGIN * threshold(setting, course[loss.epoch - 2]))
    if loss.form == "unlearnt":
        unlearnt = course.max() < setting.chance + 0.01
        return bool(unlearnt and references[0][-1] > setting.chance + 2 * MARGIN * threshold(setting, 0.5))
    gaps = gap(course, references, loss.epoch)
    horizon = min(2 * setting.period, setting.epochs - loss.epoch)
    trough = float(gaps[: setting.period].max())
    around = course[loss.epoch - 4 : loss.epoch + setting.period]
    if trough < MARGIN * threshold(setting, around):
        return False
    left = float(gaps[horizon]) / float(gaps[: horizon + 1].max())
    return left <= PASSES if loss.kind == "transient" else left >= LASTS


# --- scenarios -----------------------------------------------------------------------------------------------------


def _at(rng: np.random.Generator, setting: Setting, room: int) -> int:
    """A switch with three epochs ahead of it and ``room`` periods after it."""
    fit = [s for s in setting.switches if s >= 4 and s + room * setting.period <= setting.epochs]
    return int(rng.choice(fit)) if fit else setting.switches[0]


def _depth(rng: np.random.Generator, setting: Setting) -> float:
    """Clearly above the threshold, half of them less than three times it, to most of what there is."""
    low = MARGIN * threshold(setting, setting.top)
    return float(min(low * np.exp(rng.exponential(0.6)), max(0.6, 1.2 * low)))


def _lasting(rng: np.random.Generator, setting: Setting, epoch: int, kind: str) -> Loss:
    """Lost within a few epochs, then for good or for at least two periods and a half."""
    hold = np.inf if rng.random() < 0.5 else setting.period * rng.uniform(2.5, 4)
    ramp = int(rng.integers(0, max(1, setting.period // 2)))
    return Loss(kind, epoch, _depth(rng, setting), ramp=ramp, hold=hold, back=setting.period * rng.uniform(0.5, 3))


def _healthy(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    return setting, {}


def _noisy(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    return replace(setting, spikes=True, correlation=0.5, shape="flat"), {}


def _shrinking(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    return replace(setting, shape="rate"), {}


def _transient(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    hold = float(rng.uniform(2, max(2.1, setting.period - 1)))
    back = float(rng.uniform(0.2, 0.4) * setting.period)
    role: Role = "joint" if rng.random() < 0.8 else "coreset"
    return setting, {role: Loss("transient", _at(rng, setting, 2), _depth(rng, setting), hold=hold, back=back)}


def _stall(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    early = int(rng.integers(4, 2 * setting.period + 4))
    tau = rng.uniform(0.5, 1.5) * early / setting.epochs
    setting = replace(setting, warmup=early, tau=float(tau), bend=float(rng.uniform(1, 2)), churn=setting.churn / 2)
    epoch = setting.switches[int(rng.integers(2))]
    return setting, {"joint": Loss("critical_double_loss", epoch, form="stall")}


def _decline(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    depth = MARGIN * threshold(setting, setting.top) * rng.uniform(1.2, 2.5)
    return setting, {"joint": Loss("critical_double_loss", _at(rng, setting, 2), float(depth), form="decline")}


def _divergence(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    form: Literal["nan", "explosion"] = "nan" if rng.random() < 0.6 else "explosion"
    epoch = int(rng.integers(6, setting.epochs - setting.period))
    roles: tuple[Role, ...] = ("joint", "joint", "prune", "coreset")
    return setting, {roles[rng.integers(4)]: Loss("divergence", epoch, form=form)}


def _layer_collapse(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    loss = Loss("layer_collapse", _at(rng, setting, 1), form="gone", ramp=int(rng.integers(0, 2)))
    return setting, {"joint": loss, "prune": loss} if rng.random() < 0.3 else {"joint": loss}


def _single(which: Role, later: bool) -> Maker:
    """A control loses, and the joint run the same within 15 %; ``later``: one of them a switch after the other."""

    def maker(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
        epoch = _at(rng, setting, 4 if later else 2)
        first = replace(_lasting(rng, setting, epoch, "single_loss"), hold=np.inf)
        second = replace(first, depth=first.depth * rng.uniform(0.87, 1.15), ramp=min(first.ramp, 1))
        if later:
            second = replace(second, epoch=epoch + setting.period)
        return setting, {which: first, "joint": second} if rng.random() < 0.5 else {which: second, "joint": first}

    return maker


def _double(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    return setting, {"joint": _lasting(rng, setting, _at(rng, setting, 2), "critical_double_loss")}


def _at_the_end(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    fit = [s for s in setting.switches if setting.period <= setting.epochs - s < 2 * setting.period]
    setting = replace(setting, moves_until=1.0)
    return setting, {"joint": _lasting(rng, setting, fit[0], "critical_double_loss")}


def _fixed_mask(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    loss = _lasting(rng, setting, _at(rng, setting, 2), "sparse_capacity")
    return replace(setting, pruner="snip"), {"joint": loss}


def _no_controls(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    return setting, {"joint": _lasting(rng, setting, _at(rng, setting, 2), "unattributed")}


def _never(rng: np.random.Generator, setting: Setting) -> tuple[Setting, Plan]:
    """Nothing is learnt before the first selection, and by the joint run nothing after it."""
    skip = bool(rng.random() < 0.3)
    setting = replace(setting, warmup=0, skip=skip, form="hill", bend=float(rng.uniform(1.5, 2.5)), pruner="rigl")
    setting = replace(setting, spread=1.0 if skip else 0.03)  # in a steep rise a late run would be one that stalls
    setting = replace(setting, tau=float(rng.uniform(2, 4) * setting.switches[0] / setting.epochs))
    return setting, {"joint": Loss("critical_double_loss", setting.switches[0], form="unlearnt")}


def _some_of(*makers: Maker) -> Maker:
    return lambda rng, setting: makers[rng.integers(len(makers))](rng, setting)


SCENARIOS: Mapping[str, Maker] = {
    "healthy": _healthy,
    "noisy": _noisy,
    "shrinking noise": _shrinking,
    "transient": _transient,
    "stall": _stall,
    "slow decline": _decline,
    "divergence": _divergence,
    "layer collapse": _layer_collapse,
    "single, prune": _single("prune", later=False),
    "single, coreset": _single("coreset", later=False),
    "single, prune, later": _single("prune", later=True),
    "single, coreset, later": _single("coreset", later=True),
    "double loss": _double,
    "double loss, late": _at_the_end,
    "fixed mask": _fixed_mask,
    "no controls": _no_controls,
    "never launched": _never,
    "missing epochs": _some_of(_healthy, _double, _single("coreset", later=False), _divergence),
}


# --- what is measured, as the two tables ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One run: its clean course and what was done to it."""

    setting: Setting
    role: Role
    seed: int
    course: Floats
    loss: Loss | None

    @property
    def pruned(self) -> bool:
        """Whether weights are pruned."""
        return self.role in ("prune", "joint")

    @property
    def few(self) -> bool:
        """Whether a coreset is selected."""
        return self.role in ("coreset", "joint")

    @property
    def truth(self) -> Truth | None:
        """The label: a loss with a frozen mask has lost nothing twice."""
        if self.loss is None:
            return None
        frozen = not removes(self.setting)[self.loss.epoch - 1]
        kind = "sparse_capacity" if frozen and self.loss.kind == "critical_double_loss" else self.loss.kind
        return Truth(kind, self.loss.epoch)


def removes(setting: Setting) -> NDArray[np.bool_]:
    """Whether the mask update of an epoch removes weights, after what is removed before training."""
    epochs = np.arange(1, setting.epochs + 1)
    moving = epochs < setting.moves_until * setting.epochs + (setting.moves_until == 1)
    return {
        "snip": np.zeros(setting.epochs, dtype=bool),
        "gmp": moving & (epochs >= setting.switches[0]),
        "rigl": moving,
    }[setting.pruner]


def written(rng: np.random.Generator, scenario: str, band: str, cells: Sequence[Cell]) -> Made:
    """The tables of the runs, and their labels."""
    tag = f"{int(rng.integers(16**8)):08x}"
    validated = bool(rng.random() < 0.6)
    names = [f"{tag}-{cell.role}-{cell.seed}" for cell in cells]
    histories = [_history(rng, cell, validated).assign(cell_id=name) for cell, name in zip(cells, names, strict=True)]
    if scenario == "missing epochs":
        share = rng.uniform(0.04, 0.15)
        histories = [h[(rng.random(len(h)) > share) | (h.index == h.index[-1])] for h in histories]
    runs = [_run(cell, h, validated) for cell, h in zip(cells, histories, strict=True)]
    table = pd.DataFrame(runs).assign(cell_id=names, sweep=tag, data=tag)
    truths = {name: cell.truth for cell, name in zip(cells, names, strict=True) if cell.truth is not None}
    return Made(scenario, band, cells[0].setting.period, table, pd.concat(histories, ignore_index=True), truths)


def _run(cell: Cell, history: pd.DataFrame, validated: bool) -> dict[str, object]:
    setting, last = cell.setting, history.iloc[-1]
    diverged = cell.loss is not None and cell.loss.form == "nan"
    row: dict[str, object] = {
        "seed": cell.seed,
        "model": "made",
        "pruner": setting.pruner if cell.pruned else "none",
        "selector": "made" if cell.few else "none",
        "preservation": "none",
        "prune_rate": setting.prune_rate if cell.pruned else 0.0,
        "coreset_ratio": setting.coreset_ratio if cell.few else 1.0,
        "status": "finished",
        "reason": "diverged" if diverged else None,
        "epochs": setting.epochs,
        "accuracy_test": setting.chance if diverged else last["accuracy_test"],
        "chance": setting.chance,
    }
    if setting.told:
        row |= {"n_val": setting.n_eval if validated else 0, "n_test": setting.n_eval}
    return row


def _history(rng: np.random.Generator, cell: Cell, validated: bool) -> pd.DataFrame:
    """One row per epoch; a run whose loss is no number ends with that epoch."""
    setting, epochs = cell.setting, np.arange(1, cell.setting.epochs + 1)
    training = _training_noise(rng, setting, cell.course)
    rows: dict[str, object] = {"epoch": epochs, "accuracy_test": _measured(rng, setting, cell.course + training)}
    if validated:
        rows["accuracy_val"] = _measured(rng, setting, cell.course + training)
    losses = {name: _loss(rng, cell) for name in ("loss_train", "loss_test")}
    out = pd.DataFrame(rows | losses | _counts(rng, cell))
    if cell.loss is not None and cell.loss.form == "nan":
        out = out[out["epoch"] <= cell.loss.epoch]
    return out


def _training_noise(rng: np.random.Generator, setting: Setting, course: Floats) -> Floats:
    """AR(1), its standard deviation constant, falling with a cosine learning rate, or as of a binomial."""
    progress = np.arange(setting.epochs) / setting.epochs
    shapes = {
        "flat": np.ones(setting.epochs),
        "rate": 0.1 + 0.45 * (1 + np.cos(np.pi * progress)),
        "binomial": np.sqrt(course * (1 - course)).clip(0.05),
    }
    shape = shapes[setting.shape] / shapes[setting.shape].max()
    white, phi = rng.normal(size=setting.epochs), setting.correlation
    noise = np.empty(setting.epochs)
    noise[0] = white[0]
    for t in range(1, setting.epochs):
        noise[t] = phi * noise[t - 1] + np.sqrt(1 - phi**2) * white[t]
    evaluation = setting.churn / (4 * setting.n_eval)
    noise = noise * shape * np.sqrt(max(setting.noise**2 - evaluation, 0))
    return np.asarray(noise - _spikes(rng, setting) if setting.spikes else noise)


def _spikes(rng: np.random.Generator, setting: Setting) -> Floats:
    """Single bad epochs, 3 to 8 standard deviations deep, at least three epochs apart."""
    out = np.zeros(setting.epochs)
    for third in range(int(rng.integers(3)), setting.epochs, 3):
        if rng.random() < 0.1:
            out[third] = setting.noise * rng.uniform(3, 8)
    return out


def _measured(rng: np.random.Generator, setting: Setting, expected: Floats) -> Floats:
    """Counted on n_eval samples, of which the share ``churn`` is drawn anew in every epoch."""
    p, anew = expected.clip(0, 1), round(setting.churn * setting.n_eval)
    correct = np.rint((setting.n_eval - anew) * p) + rng.binomial(anew, p)
    return np.asarray(correct / setting.n_eval, dtype=float)


def _loss(rng: np.random.Generator, cell: Cell) -> Floats:
    """Falls as the accuracy rises; explodes where the run does."""
    most = np.log(cell.setting.classes)
    out = most * (1 - cell.course) / (1 - cell.setting.chance) * np.exp(rng.normal(0, 0.03, len(cell.course))) + 0.02
    if cell.loss is not None and cell.loss.form in ("nan", "explosion"):
        height = np.nan if cell.loss.form == "nan" else most * np.exp(rng.uniform(3, 8))
        out = np.where(np.arange(1, len(out) + 1) >= cell.loss.epoch, height, out)
    return np.asarray(out, dtype=float)


def _counts(rng: np.random.Generator, cell: Cell) -> dict[str, object]:
    """Learning rate, samples, weights and dead layers per epoch, of 50 000 samples and a million weights."""
    setting, epochs = cell.setting, np.arange(1, cell.setting.epochs + 1)
    late = epochs >= setting.switches[0]
    switch = np.isin(epochs, setting.switches) & cell.few
    size = round(50_000 * setting.coreset_ratio)
    turned = np.rint(size * rng.uniform(0.1, 0.7, setting.epochs))
    first = epochs == setting.switches[0]
    sparse = round(1_000_000 * setting.prune_rate)
    moved = np.rint((1_000_000 - sparse) * rng.uniform(0.005, 0.1, setting.epochs))
    removed = np.where(removes(setting), moved, 0)
    grown = removed if setting.pruner == "rigl" else 0 * removed
    if setting.pruner != "gmp":
        removed = removed + np.where(epochs == 1, sparse, 0)
    collapsed = cell.loss is not None and cell.loss.kind == "layer_collapse"
    return {
        "lr": 0.05 * (1 + np.cos(np.pi * (epochs - 1) / setting.epochs)),
        "coreset_size": np.where(late & cell.few, size, 50_000),
        "switch": switch,
        "samples_removed": np.where(switch, np.where(first, 50_000 - size, turned), 0).astype(int),
        "samples_added": np.where(switch & ~first, turned, 0).astype(int),
        "weights_removed": (removed * cell.pruned).astype(int),
        "weights_grown": (grown * cell.pruned).astype(int),
        "dead_layers": (epochs >= cell.loss.epoch).astype(int) if cell.loss and collapsed else 0 * epochs,
    }


# --- scored --------------------------------------------------------------------------------------------------------


def labelled(tables: Sequence[Made]) -> Generated:
    """The tables as one, with their labels."""
    return Generated(
        pd.concat([made.runs for made in tables], ignore_index=True),
        pd.concat([made.history for made in tables], ignore_index=True),
        tuple(
            Label(cell_id, truth.kind, truth.epoch, np.nan, np.nan)
            for made in tables
            for cell_id, truth in made.truths.items()
        ),
        {cell_id: made.period for made in tables for cell_id in made.runs["cell_id"]},
        {cell_id: made.scenario for made in tables for cell_id in made.runs["cell_id"]},
    )


def found(tables: Sequence[Made]) -> Found:
    """The events of all tables; those with a validation set apart, as it is judged only where every run has one."""
    events: Found = []
    for validated in (False, True):
        part = [made for made in tables if ("accuracy_val" in made.history) == validated]
        if part:
            made = labelled(part)
            judged = collapse_events(validate_runs(made.runs), validate_history(made.history))
            events += [(event.cell_id, event.kind, event.epoch) for event in judged]
    return events


def scored(each: int) -> Iterator[tuple[str, Generated, Found]]:
    """What the shipped thresholds find at each level."""
    tables = generate(each)
    for band in BANDS:
        part = [made for made in tables if made.band == band]
        yield band, labelled(part), found(part)


def main() -> None:
    """Print the table and the false alarms."""
    show(scored(int(sys.argv[1]) if len(sys.argv) > 1 else 30))


if __name__ == "__main__":
    main()
