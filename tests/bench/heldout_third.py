"""A third generator of labelled made-up histories, written without sight of the detector and of the other two.

``python -m tests.bench.heldout_third [TABLES]`` makes TABLES tables of every scenario at each of three levels of noise
and prints what the detector finds in them.

A table is one grid of a small network: dense, prune-only, coreset-only and joint, one to five seeds, R from 3 to 20.
Courses are drawn free of noise: power laws, learning in phases, a plateau before the launch, two stages or a stepped
learning rate, then sharpening at the end or slow overfitting. The single treatments learn slower and end lower, and
coresets leave small saw-teeth at the switches. On top comes noise: flat, shrinking with the learning rate or binomial
in shape, correlated from epoch to epoch (up to 0.4) and between the runs of a seed (up to 0.6), single outliers, the
grid of an evaluation set of 200 to 10 000 samples, and lost rows. Before the first switch coreset-only is dense and
joint is prune-only, to the last digit, in most of the tables.

**Labels** say what the definitions of "Collapse events in one run" make of the courses FREE of noise. ``judged``
applies them in every reading that the words leave open (references smoothed or not, a control among its own references
or not, recovery from the trough of the window or of the horizon), and a draw is thrown away unless all readings agree,
with these margins. The threshold is max(3 points, 5 · noise) with the true standard deviation (the largest within 2R
epochs, the curve's own second differences added) for an event, and with the smallest (what autocorrelation hides from
second differences taken off) for none; the binomial floor counts where the table tells its number of samples.

* An event's gap is at least ``CLEAR`` = 1.5 thresholds; every other window, up to a loss that lasts,
  stays at or below ``QUIET`` = 0.5.
* Transient is a recovery of at least ``BACK`` = 0.75, lasting one of at most ``DOWN`` = 0.35.
* A loss is the joint run's own when excess is at least 1.5 thresholds and 0.65 of the drop, the control's when it is
  at most 0.5 thresholds or 0.35 of the drop. No event begins at a switch with fewer than R epochs left.
* The mask moves both in the window of R epochs and in that up to the horizon, or in neither. Where a row of the
  window is lost its counts are unknown, which is not zero: ``critical_double_loss`` and not ``sparse_capacity``.
* A joint run that stays within 1.5 thresholds of chance from its first switch on must have an event there.
* A dead layer and a diverged loss are labelled with the epoch that shows them first; accuracy goes to chance there.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.collapse import collapse_events
from analysis.runs import validate_history, validate_runs
from tests.analysis.generated_histories import Generated, Label
from tests.bench.collapse import Found, show
from tests.bench.third_courses import REFERENCES, ROLES, Case, Courses, Floats, Plan, Rng, courses, judged, thresholds

LEVELS = {"0.05 to 0.3": (0.0005, 0.003), "0.3 to 1": (0.003, 0.01), "1 to 2": (0.01, 0.02)}
TRIES = 40

Make = Callable[[Plan, Courses, Rng], Case | None]


def lowered(plan: Plan, clean: Courses, role: str, loss: Floats) -> Courses:
    """The courses with one run lower, never below chance."""
    return clean | {role: np.maximum(np.minimum(plan.chance, clean[role]), clean[role] - loss)}


def fall(plan: Plan, s: int, depth: float, ease: float = 1, heal: float = 0, tau: float = 1) -> Floats:
    """A loss of ``depth`` over ``ease`` epochs from epoch s on, of which the share ``heal`` comes back."""
    since = np.arange(1, plan.epochs + 1) - s + 1
    back = 1 - np.exp(-np.maximum(0, since - ease) / tau)
    return np.asarray(depth * np.clip(since / ease, 0, 1) * (1 - heal * back))


def a_switch(plan: Plan, rng: Rng, ahead: int = 0, left: int = 2) -> int:
    """A switch with so many periods before and behind it that what happens there can be told, 0 where none is."""
    inner = [s for s in plan.switches if s - ahead * plan.period >= plan.switches[0] and s > 3]
    inner = [s for s in inner if s + left * plan.period <= plan.epochs]
    return int(rng.choice(inner)) if inner else 0


def deep(plan: Plan, clean: Courses, role: str, s: int, rng: Rng, most: float = 5) -> float:
    """A depth clearly above the threshold, within what the run has to lose."""
    high = thresholds(plan, clean[role], s)[1]
    room = float(clean[role][s - 2]) - plan.chance
    return float(min(high * rng.uniform(1.7, most), room))


def healthy(plan: Plan, clean: Courses, rng: Rng) -> Case:
    """Nothing happens."""
    return Case(clean)


def small_loss(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
    """A joint run loses less than half a threshold, at once or slowly, and for good: no event."""
    s = a_switch(plan, rng)
    low = thresholds(plan, clean["joint"], max(s, 1))[0]
    loss = fall(plan, s, low * rng.uniform(0.15, 0.4), ease=rng.choice([1, plan.period]))
    drift = fall(plan, s, low * rng.uniform(0.15, 0.3) * 4, ease=4 * plan.period)
    return Case(lowered(plan, clean, "joint", loss if rng.random() < 0.5 else drift)) if s else None


def transient(role: str | None) -> Make:
    """A dip that is back at the horizon, in the joint run or in a control."""

    def make(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
        s, who = a_switch(plan, rng), role or str(rng.choice(["prune", "coreset"]))
        if not s:
            return None
        loss = fall(
            plan, s, deep(plan, clean, who, s, rng), rng.choice([1, 2]), 1, plan.period * rng.uniform(0.25, 0.6)
        )
        return Case(lowered(plan, clean, who, loss), frozenset({(who, "transient", s)}))

    return make


def own(kind: str) -> Make:
    """A lasting loss of the joint run alone: sudden or over a period, at the switch or behind it, healing or not."""

    def make(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
        s = a_switch(plan, rng)
        if not s:
            return None
        later = int(rng.integers(1, max(2, plan.period // 2))) if rng.random() < 0.25 else 0
        heal, ease = rng.choice([0, 0, rng.uniform(0.1, 0.3)]), rng.choice([1, 2, rng.uniform(0.4, 1.5) * plan.period])
        loss = fall(plan, s + later, deep(plan, clean, "joint", s, rng), ease, heal, plan.period / 2)
        return Case(lowered(plan, clean, "joint", loss), frozenset({("joint", kind, s)}))

    return make


def stall(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
    """The joint run all but stops at a switch while its references go on learning."""
    rising = [
        s
        for s in plan.switches
        if 3 < s <= plan.epochs - 2 * plan.period
        and clean["dense"][s + plan.period - 2] - clean["dense"][s - 2] > 1.6 * thresholds(plan, clean["joint"], s)[1]
    ]
    if not rising:
        return None
    s, course = int(rng.choice(rising)), clean["joint"].copy()
    course[s - 1 :] = course[s - 2] + rng.uniform(0, 0.1) * (course[s - 1 :] - course[s - 2])
    return Case(clean | {"joint": course}, frozenset({("joint", "critical_double_loss", s)}))


def decline(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
    """A loss that goes on over two to four periods, in the joint run or in a control."""
    s, who = a_switch(plan, rng), str(rng.choice(["joint", "joint", "prune", "coreset"]))
    if not s:
        return None
    periods, rate = rng.uniform(2, 4), thresholds(plan, clean[who], s)[1] * rng.uniform(2, 3)
    loss = fall(plan, s, rate * periods, ease=periods * plan.period)
    kind = "critical_double_loss" if who == "joint" else "single_loss"
    return Case(lowered(plan, clean, who, loss), frozenset({(who, kind, s)}))


def single(role: str, apart: bool = False, joint: bool = True) -> Make:
    """A control loses, and the joint run with it, at the same switch or one apart, or not at all."""

    def make(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
        s = a_switch(plan, rng, ahead=int(apart), left=2 + apart)
        if not s:
            return None
        at = s + plan.period * int(rng.choice([-1, 1])) * apart
        depth = deep(plan, clean, role, at, rng)
        made = lowered(plan, clean, role, fall(plan, at, depth, rng.choice([1, 2])))
        wanted = {(role, "single_loss", at)}
        if joint:
            loss = fall(plan, s, depth * rng.uniform(0.9, 1.1), rng.choice([1, 2]))
            made, wanted = lowered(plan, made, "joint", loss), wanted | {("joint", "single_loss", s)}
        return Case(made, frozenset(wanted))

    return make


def breaking(kind: str) -> Make:
    """A run diverges, or a layer of it dies: chance from there on."""

    def make(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
        roles = ["joint", "joint", "prune"] + ["coreset"] * (kind == "divergence")
        who, mode = str(rng.choice(roles)), str(rng.choice(["halts", "halts", "nan", "explodes"]))
        epoch = int(rng.integers(plan.switches[0], max(plan.switches[0] + 1, plan.epochs - 2 * plan.period + 1)))
        high, course = thresholds(plan, clean[who], epoch)[1], clean[who].copy()
        if course[epoch - 2] - plan.chance < 2 * high:
            return None
        course[epoch - 1 :] = plan.chance
        if kind == "divergence" and mode == "halts":
            course[epoch:] = np.nan
        return Case(clean | {who: course}, frozenset({(who, kind, epoch)}), mode, {who: epoch})

    return make


def never_launched(plan: Plan, clean: Courses, rng: Rng) -> Case | None:
    """All are at chance until the first switch; then the references learn and the joint run never does."""
    s, top = plan.switches[0], max(plan.level, plan.chance + 0.3 * (1 - plan.chance))
    since = np.arange(1, plan.epochs + 1) - s - rng.integers(0, max(1, plan.period // 3))
    rise = (top - plan.chance) * (1 - np.exp(-np.maximum(0, since) / rng.uniform(0.5, 2) / plan.period))
    made = {role: plan.chance + rise * (1 - low) for role, low in zip(REFERENCES, (0, 0.02, 0.03), strict=True)}
    made["joint"] = np.full(plan.epochs, plan.chance + rng.uniform(0, 0.003))
    return Case(made, frozenset({("joint", "critical_double_loss", s)}))


@dataclass(frozen=True)
class Scenario:
    """How a seed is made, and what its table must be like: pruners by when they move, noise, early start, controls."""

    make: Make
    pruners: tuple[str, ...] = ("always", "until", "before")
    shape: str = ""
    early: bool = False
    alone: bool = False


MOVING, STILL = ("always", "always", "until"), ("until", "before")
SCENARIOS: dict[str, Scenario] = {
    "healthy": Scenario(healthy),
    "healthy, noise shrinks": Scenario(healthy, shape="lr_strong"),
    "small loss": Scenario(small_loss),
    "transient, joint": Scenario(transient("joint")),
    "transient, control": Scenario(transient(None)),
    "double loss": Scenario(own("critical_double_loss"), MOVING),
    "stall": Scenario(stall, MOVING),
    "decline": Scenario(decline, MOVING),
    "single loss, prune": Scenario(single("prune")),
    "single loss, coreset": Scenario(single("coreset")),
    "single loss, prune, apart": Scenario(single("prune", apart=True)),
    "single loss, coreset, apart": Scenario(single("coreset", apart=True)),
    "control alone, prune": Scenario(single("prune", joint=False)),
    "control alone, coreset": Scenario(single("coreset", joint=False)),
    "sparse capacity": Scenario(own("sparse_capacity"), STILL),
    "divergence": Scenario(breaking("divergence")),
    "dead layer": Scenario(breaking("layer_collapse")),
    "never launched": Scenario(never_launched, ("always",), early=True),
    "no controls": Scenario(own("unattributed"), alone=True),
}


def cases(plan: Plan, scenario: Scenario, seeds: int, rng: Rng) -> list[Case] | None:
    """One case per seed, three of four (and the first) of the scenario; ``None`` where the plan does not allow it."""
    made: list[Case] = []
    for seed in range(seeds):
        make = scenario.make if seed == 0 or rng.random() < 0.75 else healthy
        for _ in range(TRIES):
            calm = Case(courses(plan, rng))
            if make is not never_launched and judged(plan, calm) != frozenset():
                continue
            case = make(plan, calm.clean, rng)
            if case is not None and _holds(plan, case):
                made.append(case)
                break
        else:
            return None
    return made


def _holds(plan: Plan, case: Case) -> bool:
    told = judged(plan, case)
    return told is not None and told == {one for one in case.wanted if one[0] not in case.broken}


def noise(plan: Plan, courses: Courses, rng: Rng) -> Courses:
    """Noise by run: correlated in time and between the runs, with single outliers; scaled by each run's spread."""

    def stream() -> Floats:
        white = rng.normal(0, 1, plan.epochs)
        for t in range(1, plan.epochs):
            white[t] = plan.phi * white[t - 1] + np.sqrt(1 - plan.phi**2) * white[t]
        return white

    shared, made = stream(), {}
    for role, course in courses.items():
        mixed = np.sqrt(plan.common) * shared + np.sqrt(1 - plan.common) * stream()
        for t in range(int(rng.integers(0, 40)), plan.epochs, 40):
            mixed[t] -= rng.uniform(3, 8) * (rng.random() < 0.5)
        made[role] = mixed * np.nan_to_num(plan.spread(np.nan_to_num(course)))
    first = plan.switches[0] - 1
    for late, early in (("joint", "prune"), ("coreset", "dense")):
        if late in made and early in made and rng.random() < 0.8:
            made[late][:first] = made[early][:first]
    return made


def observed(plan: Plan, case: Case, rng: Rng) -> Courses:
    """Accuracies as an evaluation set of so many samples shows them."""
    told = noise(plan, case.clean, rng)
    return {
        role: np.round(np.clip(course + told[role], 0, 1) * plan.samples) / plan.samples
        for role, course in case.clean.items()
    }


def drawn_plan(level: tuple[float, float], rng: Rng, scenario: "Scenario") -> Plan:
    """A table's settings: R, T, K, the evaluation set, the noise and the pruner."""
    period = int(rng.choice([3, 4, 5, 6, 8, 10, 12, 15, 20]))
    epochs = int(np.clip(period * rng.integers(5, 11), 30, 140))
    warmup = 0 if scenario.early else int(rng.integers(0, 2 * period + 1))
    first = (warmup // period + 1) * period
    extra = {warmup + 1} if rng.random() < 0.15 and warmup > 3 else set()
    mover = str(rng.choice(scenario.pruners))
    until = {"always": epochs, "until": int(epochs * rng.uniform(0.35, 0.6)), "before": 0}[mover]
    return Plan(
        epochs=epochs,
        period=period,
        switches=tuple(sorted({*range(first, epochs + 1, period)} | extra)),
        classes=int(rng.choice([2, 3, 5, 10, 10, 20, 50, 100])),
        samples=round(200 * 50 ** rng.random()),
        told=bool(rng.random() < 0.7),
        sd=float(rng.uniform(*level)),
        shape=scenario.shape or str(rng.choice(["flat", "lr", "binomial"])),
        phi=float(rng.uniform(0, 0.4)) if rng.random() < 0.5 else 0.0,
        common=float(rng.choice([0, 0.3, 0.6])),
        mask_every=int(rng.integers(1, 3)),
        mask_until=until,
        family=str(rng.choice(["power", "phases", "plateau", "stages", "steps"])),
        level=float(rng.uniform(0.4, 0.97)),
        roles=ROLES if not scenario.alone else (("joint",) if rng.random() < 0.5 else ("dense", "joint")),
    )


PRUNERS = {"always": "rigl", "until": "gmp", "before": "snip"}


@dataclass(frozen=True)
class Setting:
    """What the tables of one grid say beside the courses."""

    data: str
    size: int
    ratio: float
    rate: float
    turnover: float
    mover: str
    preservation: str
    on_val: bool
    lost: float
    dead: bool


def a_setting(plan: Plan, name: str, rng: Rng, dead: bool) -> Setting:
    """Drawn beside the plan; ``dead``: the count of dead layers must be told."""
    mover = "before" if not plan.mask_until else "until" if plan.mask_until < plan.epochs else "always"
    return Setting(
        data=name,
        size=int(rng.choice([1500, 5000, 50_000])),
        ratio=float(rng.choice([0.05, 0.1, 0.2, 0.5])),
        rate=float(rng.choice([0.5, 0.8, 0.9, 0.95])),
        turnover=float(rng.uniform(0.1, 0.8)),
        mover=mover,
        preservation=str(rng.choice(["none", "none", "complete"])),
        on_val=bool(rng.random() < 0.5),
        lost=float(rng.choice([0, 0, 0.02, 0.05])),
        dead=dead or bool(rng.random() < 0.7),
    )


def table(level: tuple[float, float], name: str, seed: tuple[int, ...]) -> Generated:
    """One grid in which the scenario ``name`` happens; the same ``seed`` gives the same tables."""
    rng, scenario = np.random.default_rng(seed), SCENARIOS[name]
    while True:
        plan = drawn_plan(level, rng, scenario)
        found = cases(plan, scenario, int(rng.integers(1, 6)), rng)
        if found is not None:
            break
    setting = a_setting(plan, "-".join(map(str, seed)), rng, name == "dead layer")
    runs: list[dict[str, object]] = []
    rows: list[pd.DataFrame] = []
    labels: list[Label] = []
    for number, case in enumerate(found):
        accuracies = [observed(plan, case, rng) for _ in range(1 + setting.on_val)]
        for role in plan.roles:
            cell = f"{'-'.join(map(str, seed))}-{number}{role}"
            happens = [(kind, epoch) for who, kind, epoch in sorted(case.wanted) if who == role]
            seen = history(plan, setting, case, role, [one[role] for one in accuracies], rng)
            kept = (rng.random(len(seen)) >= setting.lost) | seen["epoch"].isin([len(seen), *(e for _, e in happens)])
            known = [(told(plan, kind, epoch, seen[kept]), epoch) for kind, epoch in happens]
            labels += [label(plan, case, role, cell, kind, epoch) for kind, epoch in known]
            rows.append(seen[kept].assign(cell_id=cell))
            runs.append(run(plan, setting, case, role, seen) | {"cell_id": cell, "seed": number})
    cells = [str(row["cell_id"]) for row in runs]
    return Generated(
        runs=validate_runs(pd.DataFrame(runs)),
        history=validate_history(pd.concat(rows, ignore_index=True)),
        labels=tuple(labels),
        period=dict.fromkeys(cells, plan.period),
        scenario=dict.fromkeys(cells, name),
    )


def told(plan: Plan, kind: str, epoch: int, rows: pd.DataFrame) -> str:
    """The kind that the rows which are left can show: where one of the window is lost, its weights are not zero."""
    known = rows["epoch"].between(epoch, epoch + plan.period - 1).sum() == plan.period
    return "critical_double_loss" if kind == "sparse_capacity" and not known else kind


def label(plan: Plan, case: Case, role: str, cell: str, kind: str, epoch: int) -> Label:
    """The label of one event: its depth below the level ahead, and the true noise there."""
    course = case.clean[role]
    depth = float(course[epoch - 2] - np.nanmin(course[epoch - 1 : epoch - 1 + plan.period]))
    return Label(cell, kind, epoch, depth, float(plan.spread(np.nan_to_num(course))[epoch - 1]))


def history(plan: Plan, setting: Setting, case: Case, role: str, accuracies: list[Floats], rng: Rng) -> pd.DataFrame:
    """The rows of one run; one that diverges has its last row, or no finite loss, where it does."""
    epoch, sparse, reduced = np.arange(1, plan.epochs + 1), role in ("prune", "joint"), role in ("coreset", "joint")
    kept = int(setting.size * setting.ratio)
    switch = np.isin(epoch, plan.switches) & reduced
    first, turned = epoch == plan.switches[0], int(np.ceil(kept * setting.turnover))
    moved = rng.integers(20, 2000, plan.epochs) * plan.moves() * sparse
    loss = -np.log(np.clip(accuracies[0], 1e-3, 1)) * rng.uniform(0.8, 1.2) + 0.01
    seen = pd.DataFrame({"epoch": epoch, "accuracy_test": accuracies[-1], "loss_train": loss, "loss_test": 1.2 * loss})
    if setting.on_val:
        seen["accuracy_val"] = accuracies[0]
    seen["lr"] = 0.1 * plan.lr()
    seen["density"] = 1 - setting.rate * sparse
    seen["coreset_size"] = np.where(reduced & (epoch >= plan.switches[0]), kept, setting.size)
    seen["switch"] = switch
    seen["samples_removed"] = np.where(first, setting.size - kept, turned) * switch
    seen["samples_added"] = np.where(first, 0, turned) * switch
    seen["weights_removed"], seen["weights_grown"] = moved, moved * (setting.mover == "always")
    if setting.dead:
        seen["dead_layers"] = 0
    at = case.broken.get(role, plan.epochs + 1)
    if any(kind == "layer_collapse" for who, kind, _ in case.wanted if who == role):
        seen.loc[epoch >= at, "dead_layers"] = 1
    elif role in case.broken:
        worth = 1e5 if case.mode == "explodes" else np.nan
        seen.loc[epoch >= at, ["loss_train", "loss_test"]] = worth
        seen = seen[epoch <= at] if case.mode == "halts" else seen
    return seen


def run(plan: Plan, setting: Setting, case: Case, role: str, seen: pd.DataFrame) -> dict[str, object]:
    """The row of one run, as a sweep writes it."""
    sparse, reduced = role in ("prune", "joint"), role in ("coreset", "joint")
    gone = any(kind == "divergence" for who, kind, _ in case.wanted if who == role)
    accuracies = {name: seen[name].iloc[-1] for name in ("accuracy_test", "accuracy_val") if name in seen}
    sizes = {"n_test": plan.samples, "n_val": plan.samples} if plan.told else {}
    return {
        "sweep": "third",
        "data": setting.data,
        "model": "mlp",
        "pruner": PRUNERS[setting.mover] if sparse else "none",
        "selector": "el2n" if reduced else "none",
        "preservation": setting.preservation if reduced else "none",
        "prune_rate": setting.rate * sparse,
        "coreset_ratio": setting.ratio if reduced else 1.0,
        "status": "finished",
        "reason": "diverged" if gone else None,
        "epochs": plan.epochs,
        "chance": plan.chance,
        **{name: plan.chance if gone else value for name, value in accuracies.items()},
        **{name: n for name, n in sizes.items() if name == "n_test" or setting.on_val},
    }


def generated(level: str, tables: int, seed: int = 0) -> Iterable[Generated]:
    """That many tables of every scenario at one level of noise."""
    number = list(LEVELS).index(level)
    for k, name in enumerate(SCENARIOS):
        for n in range(tables):
            yield table(LEVELS[level], name, (seed, number, k, n))


def together(made: Iterable[Generated]) -> Generated:
    """Many grids as one, for scoring only: their columns may differ."""
    parts = tuple(made)
    return Generated(
        runs=pd.concat([one.runs for one in parts], ignore_index=True),
        history=pd.concat([one.history for one in parts], ignore_index=True),
        labels=tuple(label for one in parts for label in one.labels),
        period={cell: period for one in parts for cell, period in one.period.items()},
        scenario={cell: name for one in parts for cell, name in one.scenario.items()},
    )


def found(made: Iterable[Generated]) -> Found:
    """What the detector finds, table by table."""
    return [
        (event.cell_id, event.kind, event.epoch) for one in made for event in collapse_events(one.runs, one.history)
    ]


def main(tables: int) -> None:
    """Print what was made and what the detector finds of it."""
    scored = []
    for level in LEVELS:
        made = tuple(generated(level, tables))
        scored.append((level, together(made), found(made)))
    show(scored)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
