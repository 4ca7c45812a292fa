"""Was a loss a double loss? Four arms forked from one checkpoint, judged by their gaps.

The arms allow neither removal at a switch, the weights', the samples', or both. gap(arm) is the accuracy of ``neither``
minus the arm's at the horizon, paired by data order; interaction = gap(both) - gap(weights) - gap(samples). By 95 %
t-intervals:

    confirmed   ``both`` stays down, each single arm recovers, the interaction is above 0
    amplified   ``both`` and a single arm stay down, the interaction is above 0
    refuted     ``both`` and one single arm stay down, it explains the gap, the interaction is not above 0
    inconclusive   otherwise, with the number of data orders that would decide

Our reading: an arm stays down when its gap's interval lies above the margin (the 3 points that make an event) and has
recovered when it lies below. A single arm explains the gap when its own is above half of that of ``both``, so that a
wide interval of the interaction alone refutes nothing, when what it leaves of the gap is not above the margin, and when
the other arm recovers. An interaction below 0 speaks against a double loss too: it hinders no refutation.
Two losses that merely add up are neither confirmed nor refuted. All claims of a verdict have to hold at once, so their
joint error is at most that of one; intervals are not adjusted for the number of events looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import scipy  # its stats, which take a second, are loaded when they are used

from analysis.inference import CONFIDENCE, Floats, Summary, summarise

ARMS = ("neither", "weights", "samples", "both")
SINGLES = ("weights", "samples")
MARGIN = 0.03
FEWEST = 3
"""Data orders below which there is no verdict."""
POWER = 0.8
MOST = 1_000
"""Data orders up to which the number that would decide is told."""

Status = Literal["confirmed", "amplified", "refuted", "inconclusive"]


@dataclass(frozen=True)
class Estimate:
    """A mean over n data orders with its 95 % interval; a fraction. No interval (NaN) at n = 1."""

    n: int
    mean: float
    sd: float
    lo: float
    hi: float

    def points(self) -> str:
        """``16.3 [9.6, 23.0]`` in percentage points."""
        mean, lo, hi = (f"{100 * x + 0.0:.1f}".replace("-", "−") for x in (self.mean, self.lo, self.hi))
        return f"{mean} [{lo}, {hi}]" if np.isfinite(self.lo) else mean


@dataclass(frozen=True)
class Verdict:
    """What the arms say. ``cause`` of a refutation: ``samples_alone`` or ``weights_alone``, else empty.

    ``gaps`` of weights, samples and both. ``needed``: the data orders that would decide an inconclusive case with a
    power of 80 %, were mean and standard deviation as observed; ``None`` when no number up to 1 000 would, or nothing
    is open.
    """

    status: Status
    cause: str
    reason: str
    n: int
    gaps: Mapping[str, Estimate]
    interaction: Estimate
    needed: int | None = None

    @property
    def title(self) -> str:
        """``refuted: samples_alone``."""
        return f"{self.status}: {self.cause}" if self.cause else self.status

    def numbers(self) -> str:
        """Gaps and interaction in one line, percentage points."""
        gaps = ", ".join(f"{arm} {self.gaps[arm].points()}" for arm in ARMS[1:])
        return f"gaps {gaps}; interaction {self.interaction.points()} (points, 95 % intervals, n = {self.n})"


@dataclass(frozen=True)
class _Claim:
    """That a mean lies above (or below) a bound."""

    about: Estimate
    bound: float
    above: bool = True

    @property
    def holds(self) -> bool:
        return self.about.lo > self.bound if self.above else self.about.hi < self.bound

    @property
    def leans(self) -> bool:
        return (self.about.mean > self.bound) == self.above

    @property
    def needed(self) -> int | None:
        return orders_needed(self.about.mean - self.bound, self.about.sd)


def gaps(arms: pd.DataFrame, metric: str = "accuracy_test") -> pd.DataFrame:
    """Per data order (the column seed) the gaps of weights, samples and both at the horizon, and their interaction.

    ``arms`` has the columns arm, seed, epoch and ``metric``, a fraction; the horizon is its last epoch. Only data
    orders that have all four arms there count.
    """
    last = arms[arms["epoch"] == arms["epoch"].max()]
    table = last.pivot(index="seed", columns="arm", values=metric).reindex(columns=list(ARMS)).dropna()
    found = pd.DataFrame({arm: table["neither"] - table[arm] for arm in ARMS[1:]})
    return found.assign(interaction=found["both"] - found["weights"] - found["samples"])


def trajectories(arms: pd.DataFrame, metric: str = "accuracy_test") -> pd.DataFrame:
    """Columns arm, epoch, n, mean, lo, hi: the mean over data orders with its 95 % t-interval."""
    table = arms.pivot(index=["arm", "epoch"], columns="seed", values=metric)
    found = intervals(table.to_numpy(dtype=np.float64))
    columns = {name: getattr(found, name) for name in ("n", "mean", "lo", "hi")}
    return table.index.to_frame(index=False).assign(**columns)


def intervals(values_CS: Floats) -> Summary:
    """Mean and 95 % t-interval of each row of contrasts (rows, data orders).

    Our reading: where all of several data orders agree, the interval is that point. Here this says that two arms are
    the same bits, or both at the floor; a contrast of whole runs would claim too much by it.
    """
    found = summarise(values_CS)
    agree = (found.n > 1) & ~np.isfinite(found.lo)
    lo, hi = (np.where(agree, found.mean, end) for end in (found.lo, found.hi))
    return Summary(found.n, found.mean, np.where(agree, 0.0, found.sd), lo, hi)


def judge(arms: pd.DataFrame, metric: str = "accuracy_test", margin: float = MARGIN) -> Verdict:
    """The verdict on four arms (columns as in ``gaps``); its reason says so where the data orders are all one run."""
    found = verdict(gaps(arms, metric), margin)
    if found.n < FEWEST or not _one_run(arms, metric):
        return found
    return replace(found, reason=f"{found.reason}; all {found.n} data orders gave the same runs, {_NO_ORDER}")


def _one_run(arms: pd.DataFrame, metric: str) -> bool:
    """Whether in every arm all data orders have the same accuracies, epoch by epoch."""
    return bool((arms.groupby(["arm", "epoch"])[metric].nunique() <= 1).all())


def verdict(found: pd.DataFrame, margin: float = MARGIN) -> Verdict:
    """The verdict on gaps by seed, as ``gaps`` gives them."""
    half = {f"{arm} over half": found[arm] - found["both"] / 2 for arm in SINGLES}
    left = {f"left by {arm}": found["both"] - found[arm] for arm in SINGLES}
    contrasts = found.assign(**half, **left)
    summary = intervals(contrasts.to_numpy(dtype=np.float64).T)
    rows = zip(*(getattr(summary, name) for name in ("n", "mean", "sd", "lo", "hi")), strict=True)
    numbers = zip(contrasts.columns, rows, strict=True)
    by_name = {str(name): Estimate(int(n), *map(float, rest)) for name, (n, *rest) in numbers}
    options = list(_options(by_name, margin)) if len(found) >= FEWEST else []
    reached = [(status, cause) for status, cause, claims in options if all(claim.holds for claim in claims)]
    status, cause = reached[0] if reached else ("inconclusive", "")
    needed = None if reached else _decides(options)
    reason = _REASONS.get(cause or status) or _open(by_name, options, needed, margin)
    return Verdict(
        status, cause, reason, len(found), {arm: by_name[arm] for arm in ARMS[1:]}, by_name["interaction"], needed
    )


def orders_needed(distance: float, sd: float) -> int | None:
    """The least number of data orders at which the 95 % interval of such a mean clears its bound with a power of 80 %.

    ``distance`` from mean to bound and ``sd`` as observed; ``None`` when it takes more than 1 000. By the noncentral t
    distribution, one side of the interval.
    """
    n = np.arange(FEWEST, MOST + 1)
    if sd == 0:
        return None if distance == 0 else FEWEST
    effect = abs(distance) / sd * np.sqrt(n)
    enough = scipy.stats.nct.sf(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1), n - 1, effect) >= POWER
    return int(n[enough.argmax()]) if enough.any() else None


_Option = tuple[Status, str, tuple[_Claim, ...]]


def _options(by_name: Mapping[str, Estimate], margin: float) -> Iterator[_Option]:
    """Every verdict with what it claims. The interaction above 0 decides between the two kinds of them."""
    both, interaction = _Claim(by_name["both"], margin), _Claim(by_name["interaction"], 0.0)
    recovered = {arm: _Claim(by_name[arm], margin, above=False) for arm in SINGLES}
    yield "confirmed", "", (both, interaction, *recovered.values())
    for arm in SINGLES:
        yield "amplified", "", (both, interaction, _Claim(by_name[arm], margin))
    for arm, other in (SINGLES, SINGLES[::-1]):
        if not (interaction.holds or _Claim(by_name[f"left by {arm}"], margin).holds):
            explains = _Claim(by_name[f"{arm} over half"], 0.0)
            yield "refuted", f"{arm}_alone", (both, _Claim(by_name[arm], margin), explains, recovered[other])


def _leaning(options: list[_Option]) -> Iterator[tuple[str, int]]:
    """The verdicts that the means point to, each with the data orders that would settle its open claims."""
    for status, cause, claims in options:
        if all(claim.leans for claim in claims):
            needed = [claim.needed for claim in claims if not claim.holds]
            most = [n for n in needed if n is not None]
            if len(most) == len(needed) and most:
                yield cause or status, max(most)


def _decides(options: list[_Option]) -> int | None:
    return min((n for _, n in _leaning(options)), default=None)


_NO_ORDER = "as those of a coreset of one batch do, so no interval tells of chance"
_REASONS = {
    "confirmed": "together the two removals cost what neither costs alone",
    "amplified": "a single removal costs accuracy too, but together they cost more than both losses added",
    "samples_alone": "the samples that left explain the gap; that both together cost more than their sum is not shown",
    "weights_alone": "the weights that left explain the gap; that both together cost more than their sum is not shown",
}


def _open(by_name: Mapping[str, Estimate], options: list[_Option], needed: int | None, margin: float) -> str:
    if not options:
        return f"fewer than {FEWEST} data orders have all four arms"
    if by_name["both"].mean <= margin:
        lasting = f"both removals together cost {100 * by_name['both'].mean:.1f} points at the horizon"
        return f"the loss does not last in these runs: {lasting}, no more than the margin of {100 * margin:g}"
    if all(_Claim(by_name[arm], margin).holds for arm in SINGLES) and by_name["interaction"].hi < 0:
        return "the two losses overlap: each removal costs accuracy alone, and together they cost less than added"
    towards = [name for name, n in _leaning(options) if n == needed]
    if towards:
        return f"leans to {towards[0]}; {needed} data orders would decide"
    if any(all(claim.leans for claim in claims) for _, _, claims in options):
        return f"more than {MOST} data orders would be needed to decide"
    return "the two losses add up: neither explains the gap alone, and no interaction is shown"
