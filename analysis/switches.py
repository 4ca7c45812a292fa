"""What every switch of the joint runs took, what followed, and whether the one foretells the other."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.charts import Chart, Charts, Line, Marks, by_numbers, median_band
from analysis.courses import MEASURED, Courses
from analysis.dips import Detection, expected_course
from analysis.events import CENSORED, OPEN, Event
from analysis.inference import Floats

WORDS = {
    "lost_support": ("lost support Λ", False),
    "shock": ("shock", True),
    "class_imbalance": ("class imbalance", False),
}
COLUMNS = 4
RESAMPLES = 1_000
CELL = ["cell_id", "pruner", "selector", "preservation", "prune_rate", "coreset_ratio", "seed"]


def switches(c: Courses, events: Iterable[Event], settings: Detection) -> pd.DataFrame:
    """One row per switch of a joint run: its cell, what was measured, the drop within R epochs, the event's kind.

    drop is the largest gap below the expected course, a fraction; kind and status are the event's, empty without one.
    """
    joint = (c.cells["role"] == "joint").to_numpy()
    parts = [
        _at(
            c,
            np.flatnonzero(joint & (c.group_C == group) & (c.last_C >= epoch) & c.switched(epoch)),
            epoch,
            period,
            settings,
        )
        for group, (epochs, period) in enumerate(zip(c.switches, c.periods, strict=True))
        for epoch in epochs
    ]
    names = [*CELL, "epoch", *c.measured, "drop"]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    at, said = ["cell_id", "epoch"], ["kind", "status"]
    kinds = pd.DataFrame([(e.cell_id, e.epoch, e.kind, e.status) for e in events], columns=[*at, *said])
    found = found.merge(kinds.drop_duplicates(at), on=at, how="left")
    found[said] = found[said].fillna("").astype("str")
    return found.sort_values(["cell_id", "epoch"], ignore_index=True)


def _at(c: Courses, rows: np.ndarray, epoch: int, period: int, settings: Detection) -> pd.DataFrame:
    gap = expected_course(c, rows, epoch, settings.ahead)[1] - c.smooth_CT[rows]
    inside = gap[:, epoch - 1 : epoch - 1 + period]
    # In the first epoch there is nothing to fall from.
    told = np.isfinite(inside).any(axis=1) & c.followed[rows] & (epoch > 1)
    drop = np.where(told, np.nanmax(np.nan_to_num(inside, nan=-np.inf), axis=1), np.nan)
    measured = {name: c.measured[name][rows, epoch - 1] for name in c.measured}
    return c.cells.loc[rows, CELL].reset_index(drop=True).assign(epoch=epoch, **measured, drop=np.maximum(drop, 0.0))


def foretelling(found: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each measure with the drop, over all switches that have both.

    The interval (95 %, percentiles) draws whole runs again, as the switches of one run are not independent. Our
    reading: ranks are those of the whole sample in every draw.
    """
    rows = []
    for name in MEASURED:
        both = found[found[name].notna() & found["drop"].notna()] if name in found else found.head(0)
        # What never varies has no rank: class imbalance where every coreset keeps the class shares.
        if both["cell_id"].nunique() < 3 or both[[name, "drop"]].nunique().min() < 2:
            continue
        x, y = (both[column].rank().to_numpy(dtype=np.float64) for column in (name, "drop"))
        sums_RS = _sums(pd.factorize(both["cell_id"])[0], x - x.mean(), y - y.mean())
        lo, hi = np.nanquantile(_correlation(_drawn_again(len(sums_RS)) @ sums_RS), (0.025, 0.975))
        rho = float(_correlation(sums_RS.sum(axis=0, keepdims=True))[0])
        rows.append((name, rho, float(lo), float(hi), len(both), len(sums_RS)))
    return pd.DataFrame(rows, columns=["measure", "rank_correlation", "lo", "hi", "n_switches", "n_runs"])


def _sums(run: np.ndarray, x: Floats, y: Floats) -> Floats:
    """Count, sums and sums of products by run."""
    return np.stack([np.bincount(run, weights) for weights in (np.ones_like(x), x, y, x * x, y * y, x * y)], axis=1)


def _drawn_again(runs: int) -> Floats:
    """How often each run is drawn, (resamples, runs)."""
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(0, runs, runs), minlength=runs) for _ in range(RESAMPLES)]
    return np.stack(drawn).astype(np.float64)


def _correlation(sums: Floats) -> Floats:
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
    return value


def charts(found: pd.DataFrame, told: pd.DataFrame, epochs: int) -> Charts | None:
    """Each measure over the epochs of the switches, a column per selector; ``None`` where nothing was measured.

    A measure that never varies has no chart: the caption names it.
    """
    measured = [name for name in MEASURED if name in found and found[name].notna().any()]
    names = [name for name in measured if not _same(found[name])]
    if not names:
        return None
    selectors = sorted(found["selector"].unique(), key=by_numbers)
    made = tuple(
        _chart(found[found["selector"] == selector], selector, name, epochs)
        for name in names
        for selector in selectors[:COLUMNS]
    )
    title, columns = "What a switch takes, and whether a collapse follows", len(selectors[:COLUMNS])
    same = "".join(f" {unvarying(found, name)}" for name in measured if name not in names)
    return Charts("switches", title, _caption(told, selectors) + same, columns, made, shared=True)


def unvarying(found: pd.DataFrame, name: str) -> str:
    """What a reader is told of a measure that is the same at all of several switches; nothing of any other."""
    if name not in found or not _same(found[name]):
        return ""
    words, value = WORDS[name][0], found[name].dropna().iloc[0]
    return f"{words[:1].upper()}{words[1:]} is {value:.3g} at every switch: it has no chart."


def _same(values: pd.Series) -> bool:
    """Whether several numbers are one, but for rounding."""
    known = values.dropna().round(9)
    return len(known) > 1 and known.nunique() == 1


def _chart(rows: pd.DataFrame, selector: str, name: str, epochs: int) -> Chart:
    transient, open_still = rows["kind"] == "transient", rows["status"].isin([OPEN, CENSORED])
    lasting = (rows["kind"] != "") & ~transient
    words, log = WORDS[name]
    line = median_band("no event follows", _matrix(rows[(rows["kind"] == "") & ~_after(rows, lasting)], name, epochs))
    marks = (
        _marks("a dip that recovers", rows[transient], name),
        _marks("a lasting loss", rows[lasting & ~open_still], name),
        _marks("whether it lasts is not known", rows[lasting & open_still], name),
    )
    lines: tuple[Line, ...] = () if line is None else (line,)
    known = rows[rows[name].notna()]
    title = " · ".join(filter(None, (selector, _counted(known), _nothing_to_see(rows[name]))))
    return Chart(title, words, lines, tuple(m for m in marks if len(m.epoch)), log=log)


def _after(rows: pd.DataFrame, lasting: pd.Series) -> pd.Series:
    """Whether a run has lost for good before the row's switch: of what is down already nothing more falls."""
    first = rows[lasting].groupby("cell_id")["epoch"].min()
    return rows["epoch"] > rows["cell_id"].map(first)


def _counted(known: pd.DataFrame) -> str:
    """How many runs and events a chart shows."""
    runs, events = known["cell_id"].nunique(), int((known["kind"] != "").sum())
    return f"{runs} run{'s' * (runs > 1)}, {events} event{'s' * (events != 1)}" if runs else ""


def _nothing_to_see(values: pd.Series) -> str:
    """Why a chart looks empty."""
    if values.isna().all():
        return "not measured"
    return f"always {values.dropna().iloc[0]:.3g}" if _same(values) else ""


def _marks(name: str, rows: pd.DataFrame, column: str) -> Marks:
    known = rows[rows[column].notna()]
    return Marks(name, known["epoch"].to_numpy(dtype=np.int64), known[column].to_numpy(dtype=np.float64))


def _matrix(rows: pd.DataFrame, column: str, epochs: int) -> Floats:
    run = pd.factorize(rows["cell_id"])[0]
    out = np.full((int(run.max(initial=-1)) + 1, epochs), np.nan)
    out[run, rows["epoch"].to_numpy(dtype=np.int64) - 1] = rows[column].to_numpy(dtype=np.float64)
    return out


def _caption(told: pd.DataFrame, selectors: list[str]) -> str:
    words = [
        f"{WORDS[str(row['measure'])][0]} {row['rank_correlation']:+.2f} [{row['lo']:+.2f}, {row['hi']:+.2f}] "
        f"(n = {row['n_switches']} switches of {row['n_runs']} runs)"
        for _, row in told.iterrows()
    ]
    said = "; ".join(words).replace("-", "−")
    more = f" {len(selectors) - COLUMNS} further selectors are in switches.csv." if len(selectors) > COLUMNS else ""
    rank = f" Rank correlation with the drop after the switch, 95 % interval over runs: {said}." if said else ""
    fewer = told["n_switches"].nunique() > 1
    lacks = " Λ is not defined where no weight is removed yet, or is cut out of the network." if fewer else ""
    line = "median and quartiles over the switches that no event follows, up to a run's first loss that lasts"
    return f"Joint runs. Line and band: {line}.{rank}{lacks}{more}"
