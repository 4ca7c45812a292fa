"""Label noise over the epochs: what of it the coresets take, whether it is learnt, and how far validation misleads."""

import numpy as np
import pandas as pd

from analysis.charts import Chart, Charts, Line, by_numbers, median_band
from analysis.courses import Courses, matrices
from analysis.inference import Floats

NEEDED = ("noise_ratio", "noisy_clean_loss", "loss_test", "loss_val")
WORDS = {
    "noise_ratio": "mislabelled samples (%)",
    "noisy_clean_loss": "loss of noisy ÷ clean",
    "overfitting": "(test − val) ÷ val loss",
}
ROLES = {"dense": "dense", "prune_only": "prune-only", "coreset_only": "coreset-only", "joint": "joint"}
COLUMNS = 4


def charts(c: Courses, history: pd.DataFrame) -> Charts | None:
    """Noise ratio of the coresets, noisy/clean loss and overfitting gap by role, a column per selector.

    ``None`` where no label is known to be noisy.
    """
    found = quantities(c, history)
    if not (np.isfinite(found["noise_ratio"]).any() or np.isfinite(found["noisy_clean_loss"]).any()):
        return None
    chosen = c.cells["selector"]
    selectors = sorted(set(chosen) - {"none"}, key=by_numbers)[:COLUMNS] or ["none"]
    made = [
        _chart(c, values, ((chosen == selector) | (chosen == "none")).to_numpy(), selector, WORDS[name])
        for name, values in found.items()
        for selector in selectors
        if np.isfinite(values).any()
    ]
    caption = (
        "Median and quartiles over the n runs of a role (all prune rates, coreset ratios and seeds). "
        "Mislabelled samples: share of flipped labels in a switch's coreset. Loss of noisy ÷ clean: 1 means "
        "that mislabelled samples are learnt like the others. Last: how far the test loss lies above the validation "
        "loss."
    )
    return Charts("label_noise", "Label noise over the epochs", caption, len(selectors), tuple(made), shared=True)


def quantities(c: Courses, history: pd.DataFrame) -> dict[str, Floats]:
    """The three by (run, epoch): noise ratio in per cent, noisy/clean loss, (L_test - L_val) / L_val."""
    raw = matrices(c, history, NEEDED)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = (raw["loss_test"] - raw["loss_val"]) / raw["loss_val"]
    overfitting = np.where(np.isfinite(gap), gap, np.nan)
    return {
        "noise_ratio": 100 * raw["noise_ratio"],
        "noisy_clean_loss": raw["noisy_clean_loss"],
        "overfitting": overfitting,
    }


def _chart(c: Courses, values_CT: Floats, of: np.ndarray, selector: str, unit: str) -> Chart:
    lines: list[Line] = []
    runs: list[str] = []
    for role, name in ROLES.items():
        rows = of & (c.cells["role"] == role).to_numpy() & np.isfinite(values_CT).any(axis=1)
        line = median_band(name, values_CT[rows])
        lines += [] if line is None else [line]
        runs += [] if line is None else [f"{rows.sum()} {name}"]
    return Chart(f"{selector}\nn = {', '.join(runs)}", unit, tuple(lines))
