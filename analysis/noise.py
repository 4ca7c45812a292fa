"""Label noise over the epochs: what of it the coresets take, whether it is learnt, and how far validation misleads."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.charts import Chart, Charts, Line, by_numbers, median_band
from analysis.courses import Courses, matrices
from analysis.inference import Floats

NEEDED = ("noise_ratio", "noisy_clean_loss", "loss_test", "loss_val")
WORDS = {
    "noise_ratio": "mislabelled samples (%)",
    "noisy_clean_loss": "loss of noisy ÷ clean",
    "overfitting": "(test − val) ÷ val loss",
}
MEANING = {
    "noise_ratio": "Mislabelled samples: share of flipped labels in a switch's coreset.",
    "noisy_clean_loss": "Loss of noisy ÷ clean: 1 means that mislabelled samples are learnt like the others.",
    "overfitting": "(test − val) ÷ val: how far the test loss lies above the validation loss.",
}
POOLED = "Median and quartiles over the n runs of a role: all pruners, preservations, rates, coreset ratios and seeds."
ROLES = {"dense": "dense", "prune_only": "prune-only", "coreset_only": "coreset-only", "joint": "joint"}
COLUMNS = 4


def charts(c: Courses, history: pd.DataFrame) -> Charts | None:
    """Noise ratio of the coresets, noisy/clean loss and overfitting gap by role, a column per selector.

    ``None`` where no label is known to be noisy.
    """
    found = {name: values for name, values in quantities(c, history).items() if np.isfinite(values).any()}
    known = [np.isfinite(found[name]) for name in ("noise_ratio", "noisy_clean_loss") if name in found]
    if not known:
        return None
    kinds = [kind for kind in _kinds(c) if any(rows[_of(c, kind)].any() for rows in known)]
    made = [_chart(c, values, kind, WORDS[name]) for name, values in found.items() for kind in kinds[:COLUMNS]]
    more = f" Shown: {COLUMNS} of {len(kinds)} selectors and experiments." if len(kinds) > COLUMNS else ""
    caption = f"{POOLED} {' '.join(MEANING[name] for name in found)}{more}"
    columns = min(len(kinds), COLUMNS)
    return Charts("label_noise", "Label noise over the epochs", caption, columns, tuple(made), shared=True)


def _kinds(c: Courses) -> list[tuple[str, str]]:
    """(experiment, selector) of each column; of an experiment without selection its runs alone."""
    found = set(zip(c.cells["experiment"].astype("str"), c.cells["selector"], strict=True))
    selecting = {experiment for experiment, selector in found if selector != "none"}
    shown = [kind for kind in found if kind[1] != "none" or kind[0] not in selecting]
    return sorted(shown, key=lambda kind: [by_numbers(name) for name in kind])


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


def _of(c: Courses, kind: tuple[str, str]) -> NDArray[np.bool_]:
    """The runs of a column: those of its selector, and those without one."""
    experiment, selector = kind
    return (c.cells["experiment"].eq(experiment) & c.cells["selector"].isin([selector, "none"])).to_numpy(dtype=bool)


def _chart(c: Courses, values_CT: Floats, kind: tuple[str, str], unit: str) -> Chart:
    of = _of(c, kind)
    lines: list[Line] = []
    runs: list[str] = []
    for role, name in ROLES.items():
        rows = of & (c.cells["role"] == role).to_numpy() & np.isfinite(values_CT).any(axis=1)
        line = median_band(name, values_CT[rows])
        lines += [] if line is None else [line]
        runs += [] if line is None else [f"{rows.sum()} {name}"]
    title = "\n".join(filter(None, kind))
    return Chart(f"{title}\nn = {', '.join(runs)}", unit, tuple(lines))
