"""How well are generated collapse events told apart? Precision and recall by kind, false alarms on quiet runs.

    python -m tests.bench.collapse [CASES] [SEED]

CASES (60) of each scenario of tests/analysis/generated_histories.py for each level of noise: one to five seeds, a third
with noise that shrinks with the learning rate, a third with missing epochs. A match is the same run and kind, with the
epoch within one switch. The thresholds are those of analysis/dips.py, as they ship.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from analysis.collapse import collapse_events
from tests.analysis.generated_histories import Generated, Score, false_alarms, generate, scores

LEVELS = ((0.001, 0.003), (0.003, 0.01), (0.01, 0.02))
Found = list[tuple[str, str, int]]
"""Events as (cell_id, kind, epoch)."""


def share(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}"


def line(level: str, score: Score) -> str:
    """One row of the table."""
    counts = f"{score.labelled} | {score.predicted} | {score.matched}"
    return f"| {level} | {score.kind} | {counts} | {share(score.precision)} | {share(score.recall)} |"


def show(scored: Iterable[tuple[str, Generated, Found]]) -> None:
    """Print the table and the false alarms: of each level of noise, what was made and what was found."""
    alarms = []
    print("| noise sd (points) | kind | labelled | found | matched | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for level, made, events in scored:
        for score in scores(made, events):
            print(line(level, score), flush=True)
        wrong, quiet = false_alarms(made, events)
        alarms.append(f"{wrong} of {quiet} ({wrong / quiet:.2%}) at {level} points")
    print(f"\nFalse alarms on runs to which nothing happens: {'; '.join(alarms)}.")


def scored(cases: int, seed: int) -> Iterator[tuple[str, Generated, Found]]:
    """What the shipped thresholds find at each level."""
    for low, high in LEVELS:
        made = generate(cases, (low, high), seed)
        events: Found = [(event.cell_id, event.kind, event.epoch) for event in collapse_events(made.runs, made.history)]
        yield f"{100 * low:g} to {100 * high:g}", made, events


def main() -> None:
    """Print the table and the false alarms."""
    cases, seed = (int(word) for word in (sys.argv[1:] + ["60", "2026"][len(sys.argv) - 1 :]))
    show(scored(cases, seed))


if __name__ == "__main__":
    main()
