"""Runs without any effect, to count how often the tests of analysis claim one."""

import numpy as np
import pandas as pd

from analysis.synergy import synergy
from tests.analysis.synthetic_runs import run

# Mean accuracies of (p, 1), (0, a) and (p, a) beside dense .9 and chance .1 that make each measure 0.
NULLS = {
    "gain_over_coreset": (0.9, 0.8, 0.8),
    "gain_over_pruning": (0.8, 0.9, 0.8),
    "hsa": (0.9, 0.5, 0.9),  # its least favourable null: one single as good, the other far worse
    "additive": (0.7, 0.7, 0.5),
    "bliss": (0.7, 0.7, 0.1 + 0.6**2 / 0.8),
}


def p_values(measure: str, seeds: int, models: int) -> np.ndarray:
    """One joint cell without effect in each of so many models."""
    rng = np.random.default_rng(seeds)
    pruned, cored, joint = NULLS[measure]
    means = {(0.0, 1.0): 0.9, (0.5, 1.0): pruned, (0.0, 0.2): cored, (0.5, 0.2): joint}
    base = pd.DataFrame([run(p, ratio, s, y) for (p, ratio), y in means.items() for s in range(seeds)])
    runs = pd.concat([base] * models, ignore_index=True)
    runs["model"] = np.repeat([f"m{k}" for k in range(models)], len(base))
    runs["accuracy_test"] += rng.normal(0, 0.005, len(runs))
    found = synergy(runs.assign(cell_id=np.arange(len(runs)).astype(str)))
    p = found.loc[found["measure"] == measure, "p"].to_numpy(dtype=np.float64)
    if len(p) != models:
        raise ValueError(f"{len(p)} tests of {models} models")
    return p
