"""How well are generated collapse events told apart? Precision and recall by kind, false alarms on quiet runs.

    python -m tests.bench.collapse [CASES] [SEED]

CASES (60) of each scenario of tests/analysis/generated_histories.py for each level of noise: one to five seeds, a third
with noise that shrinks with the learning rate, a third with missing epochs. A match is the same run and kind, with the
epoch within one switch. The thresholds are those of analysis/dips.py, as they ship.
"""

from __future__ import annotations

import sys

from analysis.collapse import collapse_events
from tests.analysis.generated_histories import Score, false_alarms, generate, scores

LEVELS = ((0.001, 0.003), (0.003, 0.01), (0.01, 0.02))


def share(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}"


def line(level: tuple[float, float], score: Score) -> str:
    """One row of the table."""
    low, high = (f"{100 * sd:g}" for sd in level)
    counts = f"{score.labelled} | {score.predicted} | {score.matched}"
    return f"| {low} to {high} | {score.kind} | {counts} | {share(score.precision)} | {share(score.recall)} |"


def main() -> None:
    """Print the table and the false alarms."""
    cases, seed = (int(word) for word in (sys.argv[1:] + ["60", "2026"][len(sys.argv) - 1 :]))
    alarms = []
    print("| noise sd (points) | kind | labelled | found | matched | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for level in LEVELS:
        made = generate(cases, level, seed)
        events = [(event.cell_id, event.kind, event.epoch) for event in collapse_events(made.runs, made.history)]
        for score in scores(made, events):
            print(line(level, score), flush=True)
        wrong, quiet = false_alarms(made, events)
        low, high = (f"{100 * sd:g}" for sd in level)
        alarms.append(f"{wrong} of {quiet} ({wrong / quiet:.2%}) at {low} to {high} points")
    print(f"\nFalse alarms on runs to which nothing happens: {'; '.join(alarms)}.")


if __name__ == "__main__":
    main()
