"""Small runs tables for the tests of analysis."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.runs import validate_runs

CHANCE = 0.1


def run(p: float, ratio: float, seed: int, accuracy: float | None, **fields: Any) -> dict[str, Any]:
    """One row; canonical like the orchestration's: names are none where nothing acts."""
    row = {
        "sweep": "test",
        "seed": seed,
        "data": "digits",
        "model": "mlp",
        "pruner": "rigl" if p else "none",
        "selector": "el2n" if ratio < 1 else "none",
        "preservation": "none",
        "prune_rate": p,
        "coreset_ratio": ratio,
        "status": "finished" if accuracy is not None else "failed",
        "epochs": 40,
        "accuracy_test": accuracy,
        "chance": CHANCE,
    }
    return row | fields


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a validated runs table with fresh cell ids."""
    frame = pd.DataFrame(list(rows))
    frame.insert(0, "cell_id", [f"{k:012x}" for k in range(len(frame))])
    return validate_runs(frame)


def grid(accuracy: Mapping[tuple[float, float], Iterable[float]], **fields: Any) -> list[dict[str, Any]]:
    """``{(prune rate, ratio): accuracies by seed}`` as rows."""
    return [run(p, ratio, seed, y, **fields) for (p, ratio), ys in accuracy.items() for seed, y in enumerate(ys)]


def realistic(seeds: int = 3, holes: bool = True) -> pd.DataFrame:
    """Five rates, four ratios, EL2N with and without balance, two preservations.

    With holes: one point is missing, one failed. EL2N alone collapses at (0.9, 0.05).
    """
    rng = np.random.default_rng(1)
    rows = []
    for p in (0.0, 0.5, 0.8, 0.9, 0.95):
        for ratio in (1.0, 0.2, 0.1, 0.05):
            for balanced in (None,) if ratio == 1 else (False, True):
                for kept in ("none",) if ratio == 1 or p == 0 else ("none", "complete"):
                    if holes and (p, ratio, balanced, kept) == (0.95, 0.1, True, "complete"):
                        continue
                    broken = holes and (p, ratio, balanced, kept) == (0.8, 0.05, True, "none")
                    collapsed = (p, ratio, balanced, kept) == (0.9, 0.05, False, "none")
                    for seed in range(seeds):
                        y = 0.95 - 0.06 * p**4 + 0.05 * np.log10(ratio) - 0.4 * collapsed
                        y += rng.normal(0, 0.004)
                        rows.append(
                            run(p, ratio, seed, None if broken else y, preservation=kept)
                            | {"selector.balanced": balanced, "reason": "out of memory" if broken else None}
                            | {"flops_relative": (1 - p) * ratio + 0.01 * (ratio < 1), "seconds": 600 * ratio}
                        )
    return table(rows)


def write(folder: Path, runs: pd.DataFrame, kind: str = "parquet", name: str = "runs") -> Path:
    """The table as ``folder/name.kind``."""
    if kind == "parquet":
        runs.to_parquet(folder / f"{name}.parquet")
    else:
        runs.to_csv(folder / f"{name}.csv", index=False)
    return folder
