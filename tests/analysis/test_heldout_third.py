"""The third generator: its tables are valid, its labels name what is there, and the same seed gives the same table."""

import numpy as np
import pandas as pd
import pytest

from analysis.events import KINDS
from analysis.runs import validate_history, validate_runs
from tests.bench.heldout_third import LEVELS, SCENARIOS, table, together, told
from tests.bench.third_courses import Case, Plan, judged

LOW, *_, HIGH = LEVELS.values()


def plan(**fields: object) -> Plan:
    """Forty epochs, a switch every five, no noise to speak of, a mask that always moves."""
    given = {
        "epochs": 40,
        "period": 5,
        "switches": tuple(range(10, 41, 5)),
        "classes": 10,
        "samples": 10_000,
        "told": False,
        "sd": 0.0005,
        "shape": "flat",
        "phi": 0.0,
        "common": 0.0,
        "mask_every": 1,
        "mask_until": 40,
        "family": "power",
        "level": 0.8,
    }
    return Plan(**(given | fields))  # type: ignore[arg-type]


def flat(**drops: float) -> dict[str, np.ndarray]:
    """Four courses at 80 % that fall by ``drops`` at epoch 20."""
    after = np.arange(1, 41) >= 20
    return {role: 0.8 - drops.get(role, 0.0) * after for role in ("dense", "prune", "coreset", "joint")}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_builds_and_its_labels_name_runs_and_epochs(name: str) -> None:
    made = table(LOW, name, (3, 0, 0, 0))
    pd.testing.assert_frame_equal(validate_runs(made.runs), made.runs)
    pd.testing.assert_frame_equal(validate_history(made.history), made.history)
    rows = set(zip(made.history["cell_id"], made.history["epoch"], strict=True))
    assert {(label.cell_id, label.epoch) for label in made.labels} <= rows
    assert {label.kind for label in made.labels} <= set(KINDS)
    assert bool(made.labels) != (name in ("healthy", "healthy, noise shrinks", "small loss"))
    assert set(made.runs["cell_id"]) == set(made.period) == set(made.scenario)


def test_the_same_seed_gives_the_same_table_and_another_one_another() -> None:
    first, again, other = (table(HIGH, "double loss", (seed, 0, 0, 0)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.history, again.history)
    assert first.labels == again.labels
    assert not first.history["accuracy_test"].equals(other.history["accuracy_test"])


def test_before_the_first_switch_a_joint_run_is_prune_only() -> None:
    made = table(LOW, "healthy", (0, 0, 0, 1))
    both = made.history.pivot(index="epoch", columns="cell_id", values="accuracy_test")
    first = made.history.loc[made.history["switch"], "epoch"].min()
    same = [
        both[cell].loc[: first - 1].equals(both[cell.replace("joint", "prune")].loc[: first - 1])
        for cell in both
        if cell.endswith("joint")
    ]
    assert any(same)


def test_grids_together_keep_every_run_and_label() -> None:
    parts = [table(LOW, name, (5, 0, 0, 0)) for name in ("dead layer", "divergence")]
    both = together(parts)
    assert len(both.runs) == sum(len(one.runs) for one in parts)
    assert len(both.labels) == sum(len(one.labels) for one in parts)


@pytest.mark.parametrize(
    ("drops", "fields", "said"),
    [
        ({}, {}, set()),
        ({"joint": 0.01}, {}, set()),
        ({"joint": 0.2}, {}, {("joint", "critical_double_loss", 20)}),
        ({"joint": 0.2}, {"mask_until": 15}, {("joint", "sparse_capacity", 20)}),
        ({"prune": 0.2}, {}, {("prune", "single_loss", 20)}),
        ({"joint": 0.2, "coreset": 0.2}, {}, {("joint", "single_loss", 20), ("coreset", "single_loss", 20)}),
        ({"joint": 0.03}, {}, None),
        ({"joint": 0.2, "coreset": 0.1}, {}, None),
        ({"joint": 0.2}, {"mask_until": 20 + 6, "mask_every": 26}, None),
        ({"joint": 0.1}, {"told": True, "samples": 500}, None),
    ],
)
def test_the_definitions_by_hand(drops: dict[str, float], fields: dict[str, object], said: set | None) -> None:
    assert judged(plan(**fields), Case(flat(**drops))) == said


def test_a_joint_run_that_stays_near_chance_is_not_called_healthy() -> None:
    near = {role: course - 0.8 + 0.12 for role, course in flat().items()}
    assert judged(plan(), Case(near)) is None
    never = near | {role: near[role] + 0.3 * (np.arange(1, 41) >= 10) for role in ("dense", "prune", "coreset")}
    assert judged(plan(), Case(never)) == {("joint", "critical_double_loss", 10)}


def test_a_lost_row_in_the_window_leaves_its_weights_unknown() -> None:
    rows = pd.DataFrame({"epoch": np.arange(1, 41)})
    lost = rows[rows["epoch"] != 22]
    assert told(plan(), "sparse_capacity", 20, rows) == "sparse_capacity"
    assert told(plan(), "sparse_capacity", 20, lost) == "critical_double_loss"
    assert told(plan(), "sparse_capacity", 15, lost) == "sparse_capacity"
    assert told(plan(), "single_loss", 20, lost) == "single_loss"
