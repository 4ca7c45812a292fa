"""How often do the tests of analysis claim an effect where there is none? Nominal: 5 %.

    python tests/bench/type_one.py

Simulated: normal accuracies (standard deviation half a point) around means at which the measure is exactly 0; every
model is one joint cell with its controls, tested as ``swast analyze`` does. Then the tests alone, on normal contrasts.
"""

from __future__ import annotations

import numpy as np

from analysis.inference import LEVEL, Floats, Tail, paired_test, sign_flip
from tests.analysis.simulation import NULLS, p_values

SEEDS = (3, 5, 10)
MODELS, CONTRASTS = 10_000, 100_000
TAILS: tuple[Tail, ...] = ("two-sided", "greater")


def line(name: str, p_by_n: list[Floats]) -> str:
    """A row: per cent of claims, and their standard error."""
    shares = [float((p < LEVEL).mean()) for p in p_by_n]
    cells = (f"{100 * s:.2f} ± {100 * np.sqrt(s * (1 - s) / len(p)):.2f}" for s, p in zip(shares, p_by_n, strict=True))
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print(f"| test | {' | '.join(f'n = {n}' for n in SEEDS)} |")
    print("|---|---|---|---|")
    for measure in NULLS:
        print(line(f"`{measure}`", [p_values(measure, n, MODELS) for n in SEEDS]))
    for tail in TAILS:
        null = {n: np.random.default_rng(n).normal(size=(CONTRASTS, n)) for n in SEEDS}
        print(line(f"paired t below 10, sign-flip from 10, {tail}", [paired_test(null[n], tail) for n in SEEDS]))
    flips = sign_flip(np.random.default_rng(20).normal(size=(CONTRASTS, 20)))
    print(f"\nsign-flip by sampling, n = 20: {100 * (flips < LEVEL).mean():.2f} %")


if __name__ == "__main__":
    main()
