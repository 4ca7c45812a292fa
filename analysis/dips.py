"""Robust dips at switches: local noise, the expected course, events, recovery, and the controls' own loss."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from analysis.courses import CORESET, PRUNE, Courses, Ints, median
from analysis.inference import Floats
from analysis.runs import diverged

CONSISTENT = 1.4826  # MAD to standard deviation under a normal law
_SECOND_DIFFERENCE = 6**0.5  # its standard deviation for independent noise of standard deviation 1
_OF_MEDIAN = np.array([0.0, 1.0, 0.5, 1 - 3**0.5 / np.pi])  # variance of the median of 0 to 3 normal values
DEEPER = 2.0
ABOVE_CHANCE = 2.0  # standard deviations of an accuracy at chance, by which a run has left it
ENOUGH = 8  # second differences of each run, and of all runs of a treatment, that a local noise rests on at least


@dataclass(frozen=True)
class Detection:
    """The thresholds, frozen; accuracies as fractions.

    An event is a gap above max(min_drop, z · noise); it has recovered when ``recovered`` of the
    drop is back at the horizon. ``ahead`` epochs before a switch give the level before it.
    ``select_every`` is R where the tables do not tell it.
    """

    min_drop: float = 0.03
    z: float = 5.0
    recovered: float = 0.5
    ahead: int = 3
    select_every: int | None = None


@dataclass(frozen=True)
class Dips:
    """Arrays with one entry per event; ``row`` is of the courses, epochs count from 1.

    loss_E2 is what the prune-only and the coreset-only control lost themselves, NaN without one that got so far.
    horizon is the last epoch of a run that did not get there; ``censored``: too early to tell whether the loss lasts.
    ``stuck``: the accuracy never left chance since. open_E4: whether the run itself and each of its references
    (PRUNE, CORESET, DENSE) is still on its way to the horizon; then all is as of the last epoch that is known.
    """

    row: Ints
    epoch: Ints
    before: Floats
    expected: Floats
    trough: Floats
    trough_epoch: Ints
    drop: Floats
    noise: Floats
    threshold: Floats
    recovery: Floats
    horizon: Ints
    censored: NDArray[np.bool_]
    stuck: NDArray[np.bool_]
    loss_E2: Floats
    open_E4: NDArray[np.bool_]


def local_noise(c: Courses, rows: Ints, epoch: int, group: int, level: Floats) -> Floats:
    """The noise of a gap: the run's and that of what it is compared with, √(own² + share · references²).

    own is 1.4826 · MAD of second differences / √6 within ± 2R epochs, none of them across a switch, and references the
    median of theirs, measured in the same way; share is the variance of a median of so many references to that of one.
    The whole is never below √(acc (1 − acc) / n_eval) at accuracy ``level``. Our reading: the definition's noise is the
    run's, but a control's gap holds as much noise of the dense run; own is never below the references' median; the
    seeds of a treatment are as noisy as each other, so their second differences are taken together (those of one run
    are some ten, and their MAD is off by a third); and where fewer than ENOUGH of a run's are in reach, as there are
    with switches three or four epochs apart, its nearest ENOUGH are used. A treatment that has not even ENOUGH in all,
    as in runs of a few epochs, is as noisy as everything that is looked at: of its own few a fall would be half.
    """
    references = c.references_C3[rows]
    noise_C = _noise(c, np.append(rows, references[references >= 0]), epoch, group)
    own = np.nan_to_num(noise_C[rows])
    theirs = np.nan_to_num(median(np.where(references >= 0, noise_C[references], np.nan)))
    share = _OF_MEDIAN[(references >= 0).sum(axis=1)]
    measured: Floats = np.sqrt(np.maximum(own, theirs) ** 2 + share * theirs**2)
    floor = np.sqrt(np.clip(level * (1 - level), 0, None) / c.samples_C[rows])
    bounded: Floats = np.maximum(measured, np.nan_to_num(floor))
    return bounded


def _noise(c: Courses, rows: Ints, epoch: int, group: int) -> Floats:
    """By run, the noise of its treatment near ``epoch``; NaN where no run of ``rows`` is of that treatment."""
    noise_C = np.full(len(c.cells), np.nan)
    treatments = np.unique(c.treatment_C[rows])
    near = [_near(c, np.flatnonzero(c.treatment_C == one), epoch, group).reshape(1, -1) for one in treatments]
    every = np.concatenate(near, axis=1) if near else np.empty((1, 0))
    for treatment, own in zip(treatments, near, strict=True):
        some = own if np.isfinite(own).sum() >= ENOUGH else every
        off = np.abs(some - median(some))
        noise_C[c.treatment_C == treatment] = CONSISTENT * median(off) / _SECOND_DIFFERENCE
    return noise_C


def _near(c: Courses, rows: Ints, epoch: int, group: int) -> Floats:
    """The second differences of each run that its noise rests on, nearest first; NaN for those that it does not."""
    second = np.diff(c.accuracy_CT[rows], n=2, axis=1)  # column t is around epoch t + 2
    across = np.array([s + k for s in c.switches[group] for k in (-3, -2)], dtype=np.int64)
    second[:, across[(across >= 0) & (across < second.shape[1])]] = np.nan
    distance = np.abs(np.arange(second.shape[1]) + 2 - epoch)
    order = np.argsort(distance, kind="stable")
    nearest = second[:, order]
    few = np.cumsum(np.isfinite(nearest), axis=1) <= ENOUGH
    near: Floats = np.where((distance[order] <= 2 * c.periods[group]) | few, nearest, np.nan)
    return near


def expected_course(c: Courses, rows: Ints, epoch: int, ahead: int) -> tuple[Floats, Floats]:
    """(before, expected): the level ahead of ``epoch``, and the course over all epochs, (rows, epochs).

    before + max(0, median over the references of their change since before); flat without one.
    """
    before = _level(c, rows, epoch, ahead)
    change = np.full((len(rows), c.epochs, c.references_C3.shape[1]), np.nan)
    for k in range(c.references_C3.shape[1]):
        reference = c.references_C3[rows, k]
        there = reference >= 0
        others = reference[there]
        change[there, :, k] = c.smooth_CT[others] - _level(c, others, epoch, ahead)[:, None]
    return before, before[:, None] + np.fmax(median(change), 0.0)


def _level(c: Courses, rows: Ints, epoch: int, ahead: int) -> Floats:
    """Ahead of the first epoch nothing has been learnt: chance."""
    if epoch == 1:
        return c.cells["chance"].to_numpy(dtype=np.float64, na_value=np.nan)[rows]
    return median(c.filled_CT[rows, max(epoch - 1 - ahead, 0) : max(epoch - 1, 0)])


def find_dips(c: Courses, settings: Detection) -> Dips:
    """Every event of every run, in order of group and epoch; one per run until it has recovered.

    So a slow decline is one event and not one per switch. Our reading: a fall ``DEEPER`` times as deep as the one that
    a run has not recovered from is another event, for a small dip must not hide the collapse that follows it.
    Of runs with accuracies now and then alone there is none: their noise cannot be told.
    """
    open_until, open_drop = np.zeros(len(c.cells), dtype=np.int64), np.zeros(len(c.cells))
    stuck_at = never_launched(c, settings)
    parts = [_none()]
    for group, epochs in enumerate(c.switches):
        rows = np.flatnonzero((c.group_C == group) & c.followed).astype(np.int64)
        for epoch in epochs:
            there = rows[epoch <= c.last_C[rows]]
            dips, back = _at(c, there, epoch, group, stuck_at[there] == epoch, settings)
            new = (open_until[dips.row] < epoch) | (dips.drop > DEEPER * open_drop[dips.row])
            dips = _of(dips, new)
            open_until[dips.row], open_drop[dips.row] = back[new], dips.drop
            parts.append(dips)
    return Dips(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Dips)})


def _of(dips: Dips, which: NDArray[np.bool_]) -> Dips:
    return Dips(**{f.name: getattr(dips, f.name)[which] for f in fields(Dips)})


def _none() -> Dips:
    ints, floats, flags = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool)
    return Dips(
        *(ints, ints, floats, floats, floats, ints, floats, floats, floats, floats, ints, flags, flags),
        np.zeros((0, 2)),
        np.zeros((0, 4), bool),
    )


def _at(
    c: Courses, rows: Ints, epoch: int, group: int, forced: NDArray[np.bool_], settings: Detection
) -> tuple[Dips, Ints]:
    """The events of ``rows`` at one switch, and the epoch by which each has recovered."""
    period = c.periods[group]
    before, expected = expected_course(c, rows, epoch, settings.ahead)
    gap = expected - c.smooth_CT[rows]
    at = np.arange(1, c.epochs + 1)
    noise = local_noise(c, rows, epoch, group, before)
    threshold = np.maximum(settings.min_drop, settings.z * noise)
    end = np.where(forced, c.planned_C[rows], epoch + period - 1)
    seen = np.isfinite(c.accuracy_CT[rows])
    inside = np.where(seen & (at >= epoch) & (at <= end[:, None]), gap, np.nan)
    deepest = np.argmax(np.nan_to_num(inside, nan=-np.inf), axis=1)
    drop = np.nan_to_num(np.take_along_axis(inside, deepest[:, None], axis=1)[:, 0])
    hit = (drop > threshold) & (epoch > 1) | forced  # before the first epoch there is no accuracy to fall from
    rows, gap, deepest, drop = rows[hit], gap[hit], deepest[hit], np.maximum(drop[hit], 0.0)
    forced, expected = forced[hit], expected[hit]
    horizon = np.where(forced, c.planned_C[rows], np.minimum(epoch + 2 * period, c.planned_C[rows]))
    short = c.planned_C[rows] < np.minimum(epoch + 2 * period, c.asked_C[rows])
    judged = np.minimum(horizon, c.last_C[rows])
    index = np.arange(len(rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        recovery = np.where(drop > 0, 1 - gap[index, judged - 1] / drop, np.nan)
    found = Dips(
        rows,
        np.full(len(rows), epoch),
        before[hit],
        expected[index, deepest],
        c.smooth_CT[rows, deepest],
        deepest + 1,
        drop,
        noise[hit],
        threshold[hit],
        recovery,
        horizon,
        (c.planned_C[rows] - epoch + 1 < period) | short,
        forced,
        _controls_loss(c, rows, epoch, group, judged, settings),
        np.column_stack([_before(c, rows, horizon), _references_before(c, rows, horizon)]),
    )
    return found, _recovered_by(c, found, gap, settings)


def _recovered_by(c: Courses, dips: Dips, gap: Floats, settings: Detection) -> Ints:
    """The first epoch after the trough at which enough of the drop is back; beyond the last where none is."""
    after = np.arange(1, c.epochs + 1) > dips.trough_epoch[:, None]
    back = after & (gap <= (1 - settings.recovered) * dips.drop[:, None]) & ~dips.stuck[:, None]
    return np.where(back.any(axis=1), back.argmax(axis=1) + 1, c.epochs + 1).astype(np.int64)


def _controls_loss(c: Courses, rows: Ints, epoch: int, group: int, horizon: Ints, settings: Detection) -> Floats:
    """What each control lost lastingly at a switch within [s − R, horizon), measured at the horizon; (rows, 2).

    NaN without a control, and where it did not reach the horizon, or has not yet; one that diverged is at chance.
    Its own expected course follows the dense run. Our reading: the loss since the switch, among
    those in the window, since which it lost most; nothing before the first switch counts.
    """
    out = np.full((len(rows), 2), np.nan)
    chance = c.cells["chance"].where(diverged(c.cells)).to_numpy(dtype=np.float64, na_value=np.nan)
    for k in (PRUNE, CORESET):
        control = c.references_C3[rows, k]
        there = np.flatnonzero(control >= 0)
        for start in c.switches[group]:
            near = there[(start >= epoch - c.periods[group]) & (start < np.maximum(horizon[there], epoch + 1))]
            if not near.size:
                continue
            mine, at = control[near], horizon[near] - 1
            _, expected = expected_course(c, mine, start, settings.ahead)
            reached = np.where(at < c.last_C[mine], c.smooth_CT[mine, at], chance[mine])
            loss = expected[np.arange(len(near)), at] - reached
            out[near, k] = np.fmax(out[near, k], np.maximum(loss, 0.0))
    return out


def _before(c: Courses, rows: Ints, epoch: Ints) -> NDArray[np.bool_]:
    """Whether each run has not reached the epoch yet, and will."""
    return c.last_C[rows] < np.minimum(epoch, c.planned_C[rows])


def _references_before(c: Courses, rows: Ints, epoch: Ints) -> NDArray[np.bool_]:
    """``_before`` of the references of each run; (rows, 3)."""
    references = c.references_C3[rows]
    return (references >= 0) & _before(c, references, epoch[:, None])


def never_launched(c: Courses, settings: Detection) -> Ints:
    """For each joint run whose accuracy never leaves chance, that of its first joint removal; else 0.

    The first joint removal is the run's first switch that removes samples (unknown counts do not
    speak against it). Our reading: chance is left when the level ahead of that switch, or the median of the R epochs
    from any later one, exceeds chance + max(min_drop, ABOVE_CHANCE · √(chance (1 − chance) / n_eval)).
    """
    removal = c.switch_CT & ~(c.counts["samples_removed"] == 0)
    joint = (c.cells["role"] == "joint").to_numpy(dtype=bool) & removal.any(axis=1) & ~c.cut
    first = np.where(joint, removal.argmax(axis=1) + 1, 0)
    chance = c.cells["chance"].to_numpy(dtype=np.float64, na_value=np.nan)
    floor = np.nan_to_num(np.sqrt(chance * (1 - chance) / c.samples_C))
    limit = chance + np.maximum(settings.min_drop, ABOVE_CHANCE * floor)
    left, seen = np.zeros(len(first), bool), np.zeros(len(first), bool)
    for group, epochs in enumerate(c.switches):
        rows = np.flatnonzero((c.group_C == group) & (first > 0))
        for epoch in epochs:
            begins = rows[first[rows] == epoch]
            left[begins] |= _level(c, begins, epoch, settings.ahead) > limit[begins]
            level = median(c.accuracy_CT[rows, epoch - 1 : epoch - 1 + c.periods[group]])
            left[rows] |= (epoch >= first[rows]) & (level > limit[rows])
            seen[rows] |= (epoch >= first[rows]) & np.isfinite(level)
    return np.where(seen & ~left, first, 0)
