"""How long does it take to analyse a large sweep, and how much memory? Tables, events, synergy and page; no figures.

    python tests/bench/analysis_speed.py [RUNS] [--figures]

RUNS (10 000) x 40 epochs are generated: 5 prune rates x 5 coreset ratios x selectors, preservations, seeds; one joint
run in seven with a lasting loss. Wall-clock seconds by part, and the peak of this process's memory.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import report

EPOCHS, FIRST, EVERY, CLASSES, CHANCE = 40, 10, 5, 10, 0.1
RATES, RATIOS = (0.5, 0.8, 0.9, 0.95, 0.98), (0.5, 0.2, 0.1, 0.05, 0.01)
SELECTORS, KEPT = ("el2n", "moderate", "gradmatch", "forgetting"), ("none", "complete")


def treatments() -> list[dict[str, Any]]:
    """Every treatment of the grid: 246 of them."""
    plain = {"pruner": "none", "selector": "none", "preservation": "none", "prune_rate": 0.0, "coreset_ratio": 1.0}
    found = [plain, *({**plain, "pruner": "rigl", "prune_rate": rate} for rate in RATES)]
    for selector in SELECTORS:
        for ratio in RATIOS:
            reduced = {**plain, "selector": selector, "coreset_ratio": ratio}
            for kept in KEPT:
                found.append({**reduced, "preservation": kept})
                found += [{**reduced, "preservation": kept, "pruner": "rigl", "prune_rate": rate} for rate in RATES]
    return found


def tables(runs: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A runs and a history table as a sweep leaves them."""
    rng = np.random.default_rng(0)
    grid = treatments()
    rows = [{**grid[k % len(grid)], "seed": k // len(grid)} for k in range(runs)]
    frame = pd.DataFrame(rows)
    frame.insert(0, "cell_id", [f"{k:012x}" for k in range(runs)])
    pruned, reduced = (frame["prune_rate"] > 0).to_numpy(), (frame["coreset_ratio"] < 1).to_numpy()
    at = np.arange(1, EPOCHS + 1)
    rise = 0.95 - 0.85 * np.exp(-at / 3)
    lost = (pruned & reduced & (np.arange(runs) % 7 == 0))[:, None] * (at >= FIRST + EVERY) * 0.3
    accuracy = np.clip(rise - lost + rng.normal(0, 0.004, (runs, EPOCHS)), 0, 1)
    switch = reduced[:, None] & (at >= FIRST) & (at % EVERY == 0)
    history = pd.DataFrame(
        {
            "cell_id": np.repeat(frame["cell_id"].to_numpy(), EPOCHS),
            "epoch": np.tile(at, runs),
            "accuracy_test": accuracy.ravel(),
            "accuracy_val": np.clip(accuracy + rng.normal(0, 0.004, accuracy.shape), 0, 1).ravel(),
            "coreset_size": 1000,
            "switch": switch.ravel(),
            "samples_removed": np.where(switch, 100, 0).ravel(),
            "weights_removed": np.repeat(np.where(pruned, 50, 0), EPOCHS),
            "loss_train": 0.5,
            "dead_layers": 0,
            **{name: np.where(switch, rng.random(switch.shape), np.nan).ravel() for name in MEASURED},
            **{f"accuracy_class_{k}": accuracy.ravel() for k in range(CLASSES)},
        }
    )
    final = accuracy[:, -1]
    classes = {f"accuracy_class_{k}": np.clip(final + rng.normal(0, 0.01, runs), 0, 1) for k in range(CLASSES)}
    frame = frame.assign(sweep="large", data="cifar10", model="resnet18", status="finished", epochs=EPOCHS)
    frame = frame.assign(accuracy_test=final, accuracy_worst_class=final - 0.02, chance=CHANCE, n_val=5000)
    relative = (1 - frame["prune_rate"]) * frame["coreset_ratio"]
    return frame.assign(**classes, n_test=10000, flops_relative=relative, seconds=600 * relative), history


MEASURED = ("lost_support", "shock", "class_imbalance")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds that the block takes."""
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)


def main() -> None:
    """Write the tables, analyse them, print the parts."""
    runs = int(next((word for word in sys.argv[1:] if word.isdecimal()), "10000"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, frame in zip(("runs", "history"), tables(runs), strict=True):
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        with timed(f"analysis of {runs} runs x {EPOCHS} epochs"):
            found = report.analyze(folder)
        print(f"{len(found.dynamics.events)} events")
        print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
        if "--figures" in sys.argv:
            with timed("tables, figures and page"):
                report.write(found)
            print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
