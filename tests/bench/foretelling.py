"""Does lost support foretell the drop after a switch, and better than shock and class imbalance?

    swast analyze FOLDER
    python -m tests.bench.foretelling FOLDER

Spearman's rank correlation with the drop over the switches of the joint runs (``FOLDER/switches.csv``), 95 % bootstrap
intervals over whole runs; ``lead``: that of lost support less that of the other measure, the same draws for both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

MEASURES = ("lost_support", "shock", "class_imbalance")
RESAMPLES = 2_000


def table(switches: pd.DataFrame) -> list[str]:
    """A row per set of switches that holds at least ten runs."""
    first, second, *_ = sorted(switches["epoch"].unique())
    early = switches["epoch"] <= second
    sets = {
        "all": switches,
        "first switch": switches[switches["epoch"] == first],
        "second switch": switches[switches["epoch"] == second],
        "later": switches[~early],
    }
    if switches["selector"].nunique() > 1:
        sets |= {f"{name}, all": rows for name, rows in switches.groupby("selector")}
    return [_row(name, rows) for name, rows in sets.items() if rows["cell_id"].nunique() >= 10]


def _row(name: str, switches: pd.DataFrame) -> str:
    rows = switches.dropna(subset=[*MEASURES, "drop"])
    whole, drawn = correlations(rows), resampled(rows)
    told = [_estimate(whole[k], drawn[:, k]) for k in range(len(MEASURES))]
    leads = [_estimate(whole[0] - whole[k], drawn[:, 0] - drawn[:, k]) for k in (1, 2)]
    return " | ".join([f"| {name}", f"{len(rows)} of {rows['cell_id'].nunique()}", *told, *leads]) + " |"


def correlations(rows: pd.DataFrame) -> np.ndarray:
    """Of each measure with the drop; NaN of one that never varies."""
    ranks = rows[[*MEASURES, "drop"]].rank()
    return ranks[list(MEASURES)].corrwith(ranks["drop"]).to_numpy(dtype=np.float64)


def resampled(rows: pd.DataFrame) -> np.ndarray:
    """The correlations (draws, measures) of runs drawn again; ranks are those of the whole sample."""
    run = pd.factorize(rows["cell_id"])[0]
    values = rows[[*MEASURES, "drop"]].rank().to_numpy(dtype=np.float64)
    rng, runs = np.random.default_rng(0), int(run.max()) + 1
    found = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, runs, runs), minlength=runs)[run]
        covariance = np.cov(values, rowvar=False, fweights=weights)
        spread = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((covariance / np.outer(spread, spread))[:-1, -1])
    return np.array(found)


def _estimate(value: float, drawn: np.ndarray) -> str:
    lo, hi = np.nanquantile(drawn, (0.025, 0.975))
    return f"{value:+.2f} [{lo:+.2f}, {hi:+.2f}]"


def main() -> None:
    """Print the table."""
    print("| switches | n, of runs | lost support Λ | shock | class imbalance | Λ's lead on shock | on imbalance |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(table(pd.read_csv(Path(sys.argv[1]) / "switches.csv"))))


if __name__ == "__main__":
    main()
