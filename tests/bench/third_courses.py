"""Courses free of noise for the third generator of labelled histories, and what the definitions say happens in them.

Written without sight of the detector; the margins are those of ``tests.bench.heldout_third``.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Courses = dict[str, Floats]
Rng = np.random.Generator

REFERENCES = ("dense", "prune", "coreset")
ROLES = (*REFERENCES, "joint")
MIN_DROP, Z = 0.03, 5.0
CLEAR, QUIET, BACK, DOWN = 1.5, 0.5, 0.75, 0.35
OWN, SHARED = 0.65, 0.35


@dataclass(frozen=True)
class Plan:
    """What the runs of one table share; ``sd`` is the peak of the noise as a fraction, ``mask_until`` is in epochs."""

    epochs: int
    period: int
    switches: tuple[int, ...]
    classes: int
    samples: int
    told: bool
    sd: float
    shape: str
    phi: float
    common: float
    mask_every: int
    mask_until: int
    family: str
    level: float
    roles: tuple[str, ...] = ROLES

    @property
    def chance(self) -> float:
        """Of as many classes of one size."""
        return 1 / self.classes

    def lr(self) -> Floats:
        """The share of the first learning rate, by epoch: cosine, or steps at one half and three quarters."""
        done = np.arange(self.epochs) / self.epochs
        if self.family == "steps":
            return np.where(done < 0.5, 1.0, np.where(done < 0.75, 0.3, 0.1))
        cosine: Floats = 0.5 * (1 + np.cos(np.pi * done))
        return cosine

    def moves(self) -> npt.NDArray[np.bool_]:
        """The epochs in which the mask moves."""
        epoch = np.arange(1, self.epochs + 1)
        return np.asarray((epoch % self.mask_every == 0) & (epoch <= self.mask_until), dtype=np.bool_)

    def spread(self, course: Floats) -> Floats:
        """The standard deviation of the noise by epoch, steps of one sample included."""
        weak = {
            "flat": np.ones(self.epochs),
            "lr": 0.3 + 0.7 * self.lr(),
            "lr_strong": 0.1 + 0.9 * self.lr(),
            "binomial": np.maximum(0.3, 2 * np.sqrt(course * (1 - course))),
        }[self.shape]
        noise: Floats = np.hypot(self.sd * weak, 1 / (self.samples * np.sqrt(12)))
        return noise


@dataclass(frozen=True)
class Case:
    """The courses of one seed, what happens as (role, kind, epoch), and how a divergence shows."""

    clean: Courses
    wanted: frozenset[tuple[str, str, int]] = frozenset()
    mode: str = ""
    broken: dict[str, int] = field(default_factory=dict)


def learning(plan: Plan, rng: Rng) -> Callable[[float], Floats]:
    """How far a run has learnt by epoch, from 0 to 1, as a function of how much slower it learns."""
    time = np.arange(1, plan.epochs + 1, dtype=np.float64)
    tau, beta = rng.uniform(1, plan.epochs / 8), rng.uniform(0.7, 1.8)
    start, width = rng.uniform(1, 0.15 * plan.epochs), rng.uniform(1.5, 5)
    late, knots = rng.uniform(0.3, 0.7) * plan.epochs, np.sort(rng.uniform(0, np.log(plan.epochs), 4))
    gains = np.cumsum(rng.dirichlet((6, 4, 2, 1)))

    def at(slower: float) -> Floats:
        t = time / slower
        power = 1 - (1 + t / tau) ** -beta
        if plan.family == "phases":
            knees, levels = np.concatenate([[0.0], knots + 0.7]), np.concatenate([[0.0], gains])
            return np.asarray(np.interp(np.log(t + 1), knees, levels))
        if plan.family == "plateau":
            return np.asarray(1 / (1 + np.exp(-(t - start) / width)))
        if plan.family == "stages":
            return np.asarray(0.7 * power + 0.3 / (1 + np.exp(-(t - late) / width)))
        if plan.family == "steps":
            return np.asarray(0.85 * power + 0.1 * (time > plan.epochs * 0.5) + 0.05 * (time > plan.epochs * 0.75))
        return np.asarray(power)

    return at


def courses(plan: Plan, rng: Rng) -> Courses:
    """One seed's four courses free of noise in which nothing happens, before it is checked that nothing does."""
    time = np.arange(1, plan.epochs + 1, dtype=np.float64)
    at, first = learning(plan, rng), plan.switches[0]
    span = (plan.level + rng.normal(0, 0.006) - plan.chance) * (plan.level > plan.chance) or 0.3 * (1 - plan.chance)
    sharpening = rng.uniform(0.005, 0.05) * (time / plan.epochs) ** rng.uniform(3, 6)
    onset = rng.uniform(0.4, 0.8)
    overfit = rng.uniform(0, 0.03) * np.maximum(0, time / plan.epochs - onset) / (1 - onset) * (rng.random() < 0.4)
    since = np.maximum(0, time - first + 1) / (plan.epochs - first + 1)
    slow, pruned = rng.uniform(1, 1.15), rng.uniform(0, 0.08)
    reduced, more = rng.uniform(0, 0.08), rng.uniform(0, 0.04)
    dense = np.clip(plan.chance + span * at(1.0) + sharpening - overfit, plan.chance, 0.99)
    prune = np.clip(plan.chance + span * (1 - pruned) * at(slow) + sharpening - overfit, plan.chance, 0.99)
    teeth = np.zeros(plan.epochs)
    for s in plan.switches:
        size = rng.uniform(0, 0.012) * rng.choice([1, 1, 2]) * (1 - 0.7 * s / plan.epochs)
        teeth[s - 1 : s + 1] += (size * np.array([1, 0.3]))[: plan.epochs - s + 1]
    found = {
        "dense": dense,
        "prune": prune,
        "coreset": dense - reduced * since - teeth,
        "joint": prune - (reduced + more) * since - teeth * rng.uniform(0.8, 1.3),
    }
    return {role: np.clip(found[role], plan.chance, 0.99) for role in plan.roles}


def smooth(x: Floats) -> Floats:
    """The running median of three."""
    padded = np.concatenate([x[:1], x, x[-1:]])
    return _median(np.stack([padded[:-2], padded[1:-1], padded[2:]]))


def _median(x: Floats, axis: int = 0) -> Floats:
    """The median without the epochs after a divergence, NaN where nothing else is."""
    if not np.isnan(x).any():
        return np.asarray(np.median(x, axis=axis))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(x, axis=axis))


def gaps(plan: Plan, clean: Courses, role: str, itself: bool, smoothed: bool) -> Floats:
    """expected − median₃ of a run, by switch and epoch."""
    ahead = np.maximum(0, np.asarray(plan.switches)[:, None] - np.array([4, 3, 2]))
    before = {name: _median(course[ahead], 1)[:, None] for name, course in clean.items()}
    used = [name for name in REFERENCES if name in clean and (itself or name != role)]
    change = [(smooth(clean[name]) if smoothed else clean[name]) - before[name] for name in used]
    rise = np.maximum(0, _median(np.stack(change))) if change else 0.0
    return np.asarray(before[role] + rise - smooth(clean[role]))


def thresholds(plan: Plan, course: Floats, s: int) -> tuple[float, float]:
    """The smallest and the largest threshold that the definitions can give at a switch."""
    near = slice(max(0, s - 1 - 2 * plan.period), s + 2 * plan.period)
    noise, bent = plan.spread(course)[near], np.abs(np.diff(course[near], 2))
    floor = np.sqrt(course[near] * (1 - course[near]) / plan.samples) if plan.told else np.zeros(1)
    hidden = np.sqrt(1 - 4 / 3 * plan.phi + plan.phi**2 / 3)
    own = 1.4826 * float(np.median(bent)) / np.sqrt(6)
    low, high = max(noise.min() * hidden, floor.min()), max(np.hypot(noise.max(), own), floor.max())
    return max(MIN_DROP, Z * float(low)), max(MIN_DROP, Z * float(high))


def judged(plan: Plan, case: Case) -> frozenset[tuple[str, str, int]] | None:
    """What the definitions say happens to the runs that neither diverge nor die; ``None`` where it is not clear."""
    found: set[tuple[str, str, int]] = set()
    for role in case.clean:
        if role in case.broken:
            continue
        readings = {_judged_run(plan, case, role, itself, flat) for itself in (False, True) for flat in (False, True)}
        if len(readings) > 1 or None in readings:
            return None
        found |= {(role, kind, epoch) for told in readings for kind, epoch in told or ()}
    at_first = any(role == "joint" and epoch == plan.switches[0] for role, _, epoch in found)
    return None if _near_chance(plan, case) and not at_first else frozenset(found)


def _near_chance(plan: Plan, case: Case) -> bool:
    """Whether it can be argued that the joint run never leaves chance after its first switch."""
    course, first = case.clean["joint"], plan.switches[0]
    above = float(course[first - 1 :].max()) - plan.chance if "joint" not in case.broken else np.inf
    return above < CLEAR * thresholds(plan, course, first)[1]


def _judged_run(plan: Plan, case: Case, role: str, itself: bool, flat: bool) -> tuple[tuple[str, int], ...] | None:
    gap = gaps(plan, case.clean, role, itself, flat)
    events: list[tuple[str, int]] = []
    for k, s in enumerate(plan.switches):
        peak = float(gap[k, s - 1 : s - 1 + plan.period].max())
        low, high = thresholds(plan, case.clean[role], s)
        if peak <= QUIET * low:
            continue
        horizon = min(s + 2 * plan.period, plan.epochs)
        if peak < CLEAR * high or s + plan.period > plan.epochs:
            return None
        left = float(gap[k, horizon - 1])
        recovery = sorted(1 - left / trough for trough in (peak, float(gap[k, s - 1 : horizon].max())))
        if recovery[0] >= BACK:
            events.append(("transient", s))
            continue
        kind = _attributed(plan, case, role, k, (peak, low, high)) if recovery[1] <= DOWN else None
        return (*events, (kind, s)) if kind else None
    return tuple(events)


def _attributed(plan: Plan, case: Case, role: str, k: int, told: tuple[float, float, float]) -> str | None:
    """Whose lasting loss it is; ``None`` where the margins do not tell."""
    drop, low, high = told
    if role != "joint":
        return "single_loss" if role != "dense" else None
    controls = [name for name in ("prune", "coreset") if name in case.clean]
    if not controls:
        return "unattributed"
    losses = [_lasting(plan, case.clean, name, k) for name in controls]
    least, most = max(loss[0] for loss in losses), max(loss[1] for loss in losses)
    if drop - least <= max(QUIET * low, SHARED * drop):
        return "single_loss"
    if drop - most < max(CLEAR * high, OWN * drop):
        return None
    s, moves = plan.switches[k], plan.moves()
    near, far = moves[s - 1 : s - 1 + plan.period].any(), moves[s - 1 : s + 2 * plan.period].any()
    return ("critical_double_loss" if near else "sparse_capacity") if near == far else None


def _lasting(plan: Plan, clean: Courses, name: str, k: int) -> tuple[float, float]:
    """The least and the most that a control has lost at the horizon since one switch before, at or one after."""
    s = plan.switches[k]
    horizon = min(s + 2 * plan.period, plan.epochs)
    near = [j for j, u in enumerate(plan.switches) if abs(u - s) <= plan.period]
    readings = [float(gaps(plan, clean, name, itself, True)[near, horizon - 1].max()) for itself in (False, True)]
    course = smooth(clean[name])
    readings.append(max(float(course[max(0, plan.switches[j] - 3)] - course[horizon - 1]) for j in near))
    return max(0.0, min(readings)), max(0.0, *readings)
