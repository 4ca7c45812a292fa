"""Collapse events: cases worked by hand, kinds and reasons, missing columns, and generated histories."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.collapse import collapse_events, notes
from analysis.courses import Courses, courses, filled, median, smooth
from analysis.dips import Detection, local_noise
from analysis.events import Event, to_json
from analysis.runs import validate_history, validate_runs
from tests.analysis.generated_histories import false_alarms, generate, scores
from tests.analysis.synthetic_runs import run, table

T, R, FIRST = 30, 5, 10
FLAT = {"dense": 0.9, "prune": 0.88, "coreset": 0.87, "joint": 0.85}
TREATMENT = {"dense": (0.0, 1.0), "prune": (0.9, 1.0), "coreset": (0.0, 0.1), "joint": (0.9, 0.1)}
AT = np.arange(1, T + 1)


def sweep(
    courses: dict[str, np.ndarray | float], without: tuple[str, ...] = (), **columns: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One seed of the four treatments as tables; ``columns`` are of the joint run's history."""
    made = FLAT | courses
    names = [name for name in made if name not in without]
    ends = {name: len(np.broadcast_to(made[name], T)) if np.isscalar(made[name]) else len(made[name]) for name in names}
    last = {name: np.asarray(np.broadcast_to(made[name], ends[name]), float)[-1] for name in names}
    runs = table([run(*TREATMENT[name], 0, last[name], epochs=T) for name in names])
    rows = [_rows(cell, name, made[name], columns) for cell, name in zip(runs["cell_id"], names, strict=True)]
    return runs, validate_history(pd.concat(rows, ignore_index=True))


def _rows(cell_id: str, name: str, accuracy: np.ndarray | float, columns: dict[str, Any]) -> pd.DataFrame:
    values = np.broadcast_to(accuracy, T) if np.isscalar(accuracy) else np.asarray(accuracy)
    at = AT[: len(values)]
    switch = (at >= FIRST) & (at % R == 0) & (name in ("coreset", "joint"))
    rows = pd.DataFrame(
        {"cell_id": cell_id, "epoch": at, "accuracy_test": values, "coreset_size": 10, "switch": switch}
    )
    rows["samples_removed"] = np.where(switch, 7, 0)
    rows["weights_removed"] = 3 if name in ("prune", "joint") else 0
    rows["loss_train"], rows["dead_layers"] = 0.3, 0
    return rows.assign(**columns) if name == "joint" else rows


def step(level: float, at: int, depth: float, back: int = T + 1) -> np.ndarray:
    """``level``, lowered by ``depth`` from epoch ``at`` to before ``back``."""
    return level - depth * ((at <= AT) & (back > AT))


def only(events: tuple[Event, ...], role: str = "joint") -> Event:
    found = [event for event in events if event.role == role]
    assert len(found) == 1
    return found[0]


def test_a_double_loss_by_hand() -> None:
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.30)})))
    assert (event.kind, event.status, event.epoch) == ("critical_double_loss", "suspected", 15)
    assert (event.before, event.expected, event.trough) == pytest.approx((0.85, 0.85, 0.55))
    assert (event.drop, event.excess, event.recovery) == pytest.approx((0.30, 0.30, 0.0))
    assert (event.horizon, event.trough_epoch, event.censored) == (25, 15, False)
    assert (event.samples_removed, event.weights_removed) == (7, 15)
    assert set(event.controls) == {"prune_only", "coreset_only", "dense"}
    assert event.control_drop == pytest.approx({"prune_only": 0.0, "coreset_only": 0.0})
    assert "7 samples and 15 weights were removed" in event.reason
    assert "fell 30.0 points below its expected course (55.0 instead of 85.0 %, epoch 15)" in event.reason


def test_expected_course_follows_the_median_of_the_references_and_never_falls() -> None:
    """dense +10, prune-only +4, coreset-only −20 points: the median is +4."""
    made = {"dense": step(0.9, 15, -0.1), "prune": step(0.88, 15, -0.04), "coreset": step(0.87, 15, 0.2)}
    event = only(collapse_events(*sweep({**made, "joint": step(0.85, 15, 0.4)})))
    assert event.expected == pytest.approx(0.89)
    assert event.drop == pytest.approx(0.44)
    falling = {"dense": step(0.9, 15, 0.2), "prune": step(0.88, 15, 0.2), "coreset": step(0.87, 15, 0.2)}
    assert only(collapse_events(*sweep({**falling, "joint": step(0.85, 15, 0.4)}))).expected == pytest.approx(0.85)


def test_a_stall_counts_while_the_references_go_on() -> None:
    rising = {name: step(FLAT[name] - 0.2, 15, -0.2) for name in ("dense", "prune", "coreset")}
    event = only(collapse_events(*sweep({**rising, "joint": 0.65})))
    assert (event.kind, event.epoch) == ("critical_double_loss", 15)
    assert (event.before, event.trough, event.drop) == pytest.approx((0.65, 0.65, 0.2))


def test_a_rise_that_hides_a_loss_does_not() -> None:
    rising = {name: step(FLAT[name] - 0.3, 15, -0.3) for name in ("dense", "prune", "coreset")}
    event = only(collapse_events(*sweep({**rising, "joint": step(0.5, 15, -0.1)})))
    assert event.drop == pytest.approx(0.2)


@pytest.mark.parametrize(("depth", "found"), [(0.0301, True), (0.0299, False)])
def test_the_smallest_event_is_three_points(depth: float, found: bool) -> None:
    assert bool(collapse_events(*sweep({"joint": step(0.85, 15, depth)}))) is found


def test_the_smallest_event_is_five_times_the_noise_of_the_evaluation() -> None:
    """√(.85 · .15 / 510) = 0.0158: an event needs 7.9 points."""
    for depth, found in ((0.085, True), (0.075, False)):
        runs, history = sweep({"joint": step(0.85, 15, depth)})
        assert bool(collapse_events(runs.assign(n_test=510), history)) is found


def test_transient_recovers_by_half_and_may_be_followed_by_another() -> None:
    joint = step(0.85, 10, 0.2, back=13) - 0.85 + step(0.85, 25, 0.3)
    events = collapse_events(*sweep({"joint": joint}))
    assert [(e.kind, e.epoch) for e in sorted(events, key=lambda e: e.epoch)] == [
        ("transient", 10),
        ("critical_double_loss", 25),
    ]


@pytest.mark.parametrize(("regained", "kind"), [(0.49, "critical_double_loss"), (0.51, "transient")])
def test_recovery_is_at_the_horizon(regained: float, kind: str) -> None:
    joint = 0.85 - 0.2 * (AT >= 10) + 0.2 * regained * (AT >= 19)
    event = only(collapse_events(*sweep({"joint": joint})))
    assert (event.kind, event.horizon) == (kind, 20)
    assert event.recovery == pytest.approx(regained)


def test_a_small_dip_does_not_hide_the_collapse_that_follows_it() -> None:
    fallen = step(0.85, 15, 0.06) - 0.4 * (AT >= 25)
    events = [event for event in collapse_events(*sweep({"joint": fallen})) if event.role == "joint"]
    assert {event.epoch for event in events} == {15, 25}
    deepest = max(events, key=lambda event: event.drop)
    assert (deepest.epoch, deepest.drop) == (25, pytest.approx(0.4))
    slow = step(0.85, 15, 0.06) - 0.06 * (AT >= 20) - 0.1 * (AT >= 25)
    assert len([e for e in collapse_events(*sweep({"joint": slow})) if e.role == "joint"]) == 1


def test_one_event_until_it_has_recovered() -> None:
    slow = 0.85 - np.clip(0.03 * (AT - 9), 0, 0.6)
    event = only(collapse_events(*sweep({"joint": slow})))
    assert event.epoch == 10


@pytest.mark.parametrize(("role", "cause"), [("prune", "prune"), ("coreset", "coreset")])
@pytest.mark.parametrize("control_at", [10, 15, 20])
def test_a_loss_that_a_control_shows_too_is_single(role: str, cause: str, control_at: int) -> None:
    made = {role: step(FLAT[role], control_at, 0.3), "joint": step(0.85, 15, 0.32)}
    events = collapse_events(*sweep(made))
    event, control = only(events), only(events, f"{role}_only")
    assert (event.kind, event.cause, event.epoch) == ("single_loss", cause, 15)
    assert event.excess == pytest.approx(0.02)
    assert event.control_drop[f"{role}_only"] == pytest.approx(0.3)
    assert (control.kind, control.cause, control.epoch) == ("single_loss", cause, control_at)
    assert f"The {cause}-only control lost 30.0 points itself" in event.reason


def test_a_control_that_recovers_explains_nothing() -> None:
    made = {"prune": step(0.88, 15, 0.3, back=19), "joint": step(0.85, 15, 0.32)}
    assert only(collapse_events(*sweep(made))).kind == "critical_double_loss"


@pytest.mark.parametrize(("own", "kind"), [(0.13, "single_loss"), (0.17, "critical_double_loss")])
def test_a_loss_is_its_own_when_more_than_half_of_it_is(own: float, kind: str) -> None:
    made = {"prune": step(0.88, 15, 0.30 - own), "joint": step(0.85, 15, 0.30)}
    assert only(collapse_events(*sweep(made))).kind == kind


@pytest.mark.parametrize("column", ["weights_removed", "samples_removed"])
def test_nothing_is_lost_twice_when_one_of_the_two_was_not_removed(column: str) -> None:
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.3)}, **{column: 0})))
    assert (event.kind, event.status) == ("sparse_capacity", "")
    assert "nothing was lost twice" in event.reason


def test_unknown_counts_are_not_zero() -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)})
    unknown = history.drop(columns=["weights_removed", "samples_removed"])
    event = only(collapse_events(runs, unknown))
    assert event.kind == "critical_double_loss"
    assert "(counts unknown)" in event.reason
    assert any("No column weights_removed" in note for note in notes(unknown, runs))


def test_without_controls_it_says_which_cells_to_add() -> None:
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.3)}, without=("prune", "coreset"))))
    assert event.kind == "unattributed"
    assert event.add == ("(0.9, 1) with seed 0", "(0, 0.1) with seed 0")
    assert "add or rerun (0.9, 1) with seed 0 and (0, 0.1) with seed 0" in event.reason


def test_one_control_suffices_to_show_a_single_loss_but_not_a_double_one() -> None:
    made = {"prune": step(0.88, 15, 0.3), "joint": step(0.85, 15, 0.3)}
    assert only(collapse_events(*sweep(made, without=("coreset",)))).kind == "single_loss"
    assert only(collapse_events(*sweep({"joint": made["joint"]}, without=("coreset",)))).kind == "unattributed"


def test_never_launched() -> None:
    before = {name: np.where(AT < 12, 0.1, 0.9) for name in ("dense", "prune", "coreset")}
    event = only(collapse_events(*sweep({**before, "joint": 0.1})))
    assert (event.epoch, event.never_launched, event.kind) == (10, True, "critical_double_loss")
    assert event.reason.startswith("Never launched: since its first joint removal in epoch 10")


def test_nothing_launches_is_not_the_joint_cells_own() -> None:
    event = only(collapse_events(*sweep(dict.fromkeys(FLAT, 0.1))))
    assert (event.kind, event.never_launched) == ("single_loss", True)


def test_divergence_ends_the_run() -> None:
    runs, history = sweep({"joint": np.full(17, 0.85)})
    runs.loc[runs["prune_rate"].gt(0) & runs["coreset_ratio"].lt(1), "reason"] = "diverged"
    event = only(collapse_events(runs, history))
    assert (event.kind, event.epoch, event.before) == ("divergence", 17, pytest.approx(0.85))


def test_a_history_that_goes_on_after_a_divergence_tells_its_epoch() -> None:
    loss = np.where(AT >= 18, np.nan, 0.3)
    runs, history = sweep({"joint": step(0.85, 18, 0.75)}, loss_train=loss)
    runs.loc[runs["prune_rate"].gt(0) & runs["coreset_ratio"].lt(1), "reason"] = "diverged"
    event = only(collapse_events(runs, history))
    assert (event.kind, event.epoch) == ("divergence", 18)


def test_a_loss_that_explodes_is_a_divergence() -> None:
    loss = np.where(AT >= 18, 30.0, 0.3)
    event = only(collapse_events(*sweep({"joint": step(0.85, 18, 0.7)}, loss_train=loss)))
    assert (event.kind, event.epoch) == ("divergence", 18)


def test_a_loss_that_explodes_once_and_comes_back_is_none() -> None:
    loss = np.where(AT == 2, 30.0, 0.3)
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.3)}, loss_train=loss)))
    assert (event.kind, event.epoch) == ("critical_double_loss", 15)


def test_a_dead_layer() -> None:
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.3)}, dead_layers=np.where(AT >= 16, 1, 0))))
    assert (event.kind, event.epoch) == ("layer_collapse", 15)
    silent = only(collapse_events(*sweep({}, dead_layers=np.where(AT >= 16, 1, 0))))
    assert (silent.kind, silent.epoch, silent.drop) == ("layer_collapse", 16, pytest.approx(0))


def test_a_switch_with_fewer_epochs_left_than_a_period_is_censored() -> None:
    event = only(collapse_events(*sweep({"joint": step(0.85, 27, 0.3)})))
    assert (event.epoch, event.censored, event.status) == (25, False, "suspected")
    joint = step(0.85, 25, 0.3)[:28]
    runs, history = sweep({"joint": joint})
    event = only(collapse_events(runs.assign(epochs=28), history[history["epoch"] <= 28]))
    assert (event.epoch, event.censored, event.status) == (25, True, "censored")


def test_switches_are_the_groups_and_completed_by_the_period() -> None:
    """The prune-only run has no switch of its own, and a row of a switch epoch may be missing."""
    runs, history = sweep({"prune": step(0.88, 15, 0.3)})
    c = courses(runs, history[history["epoch"] != 20])
    assert c.switches == ((10, 15, 20, 25, 30),)
    assert c.periods == (5,)
    event = only(collapse_events(runs, history), "prune_only")
    assert (event.kind, event.cause, event.epoch) == ("single_loss", "prune", 15)


def test_a_switch_in_the_first_epoch_has_nothing_before_it() -> None:
    """As of a selector that chooses from the first epoch on, with windows of R."""
    switch = (AT == 1) | (AT % R == 0)
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.30)}, switch=switch)))
    assert (event.kind, event.epoch) == ("critical_double_loss", 15)
    stuck = only(collapse_events(*sweep({"joint": 0.1}, switch=switch, samples_removed=7)))
    assert (stuck.epoch, stuck.never_launched, stuck.kind) == (1, True, "critical_double_loss")
    assert (stuck.before, stuck.expected, stuck.drop) == (0.1, pytest.approx(0.88), pytest.approx(0.78))
    late = np.where(AT < 8, 0.5, 0.85)  # 35 points behind the references since the start, but nothing was lost
    assert collapse_events(*sweep({"joint": late}, switch=switch)) == ()


def test_never_launched_from_the_first_epoch_on_is_single_where_a_control_does_not_launch_either() -> None:
    switch = (AT == 1) | (AT % R == 0)
    event = only(collapse_events(*sweep({"joint": 0.1, "coreset": 0.1}, switch=switch, samples_removed=7)))
    assert (event.epoch, event.kind, event.cause) == (1, "single_loss", "coreset")
    assert event.control_drop["coreset_only"] == pytest.approx(0.8)


def test_noise_is_that_of_the_epochs_nearby() -> None:
    """Noise of one point early and a tenth of it late; a level shift at a switch adds nothing."""
    rng = np.random.default_rng(0)
    at = np.arange(1, 401)
    sd = np.where(at <= 200, 0.01, 0.001)
    rows = []
    for k in range(40):
        shifted = 0.8 - 0.3 * (at >= 100) + 0.0005 * at + rng.normal(0, 1, 400) * sd
        rows.append(pd.DataFrame({"cell_id": f"{k:012x}", "epoch": at, "accuracy_test": np.clip(shifted, 0, 1)}))
    history = validate_history(pd.concat(rows).assign(coreset_size=1, switch=lambda h: h["epoch"] % 20 == 0))
    runs = table([run(0.0, 0.1, k, 0.5, epochs=400) for k in range(40)])
    c = courses(runs, history)
    every = np.arange(40)
    level = np.full(40, 0.5)
    assert local_noise(c, every, 100, 0, level).mean() == pytest.approx(0.01, rel=0.1)
    assert local_noise(c, every, 300, 0, level).mean() == pytest.approx(0.001, rel=0.1)


def alternating(amplitudes: list[float | np.ndarray], every: int) -> Courses:
    """Seeds of one coreset-only cell at 0.8 ± amplitude in turn, 60 epochs, a switch every ``every``."""
    at = np.arange(1, 61)
    rows = [
        pd.DataFrame({"cell_id": f"{k:012x}", "epoch": at, "accuracy_test": 0.8 + amplitude * (-1.0) ** at})
        for k, amplitude in enumerate(amplitudes)
    ]
    history = pd.concat(rows).assign(coreset_size=1, switch=lambda h: h["epoch"] % every == 0)
    return courses(table([run(0.0, 0.1, k, 0.8, epochs=60) for k in range(len(rows))]), validate_history(history))


def test_the_noise_of_seeds_is_taken_together_by_hand() -> None:
    """Second differences of ± 0.4 and ± 1.2 points, as many of each: their median is 0, their MAD 0.8 points."""
    found = local_noise(alternating([0.001, 0.003], 5), np.arange(2), 30, 0, np.zeros(2))
    assert found == pytest.approx([1.4826 * 0.008 / 6**0.5] * 2)


def test_between_frequent_switches_the_noise_is_that_of_the_nearest_epochs_by_hand() -> None:
    """R = 3 leaves one second difference in three, four within ± 2R: the nearest eight reach back to epoch 37.

    They are ± 0.4 points; half of the whole run's are ± 20.
    """
    early = np.where(np.arange(1, 61) <= 30, 0.05, 0.001)
    assert local_noise(alternating([early], 3), np.zeros(1, int), 54, 0, np.zeros(1)) == pytest.approx(
        [1.4826 * 0.004 / 6**0.5]
    )


def test_the_noise_of_a_gap_is_also_that_of_the_references() -> None:
    """One point each: a joint run's three references (their median has 0.449 of the variance), a control's one."""
    rng = np.random.default_rng(1)
    noise = dict[str, list[float]]()
    for epoch in (15, 20, 25) * 3:
        c = courses(*sweep({name: level + rng.normal(0, 0.01, T) for name, level in FLAT.items()}))
        for role, found in zip(c.cells["role"], local_noise(c, np.arange(4), epoch, 0, np.full(4, 0.5)), strict=True):
            noise.setdefault(role, []).append(found)
    wanted = {"dense": 1.0, "prune_only": 2**0.5, "coreset_only": 2**0.5, "joint": 1.449**0.5}
    for role, factor in wanted.items():
        # Own noise is raised to the references' where that is larger, so the mean is a little high.
        assert factor * 0.0085 < np.mean(noise[role]) < factor * 0.013, role


def test_validation_accuracy_is_used_when_every_run_has_it() -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)})
    told = history.assign(accuracy_val=0.5)
    assert collapse_events(runs, told) == ()
    first = told["cell_id"] == runs["cell_id"].iloc[0]
    event = only(collapse_events(runs, told.assign(accuracy_val=told["accuracy_val"].mask(first))))
    assert event.accuracy == "test"


def test_events_are_strict_json_and_do_not_depend_on_the_order_of_rows() -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)}, lost_support=np.nan, shock=1.5)
    told = history.assign(layers=json.dumps({"fc": {"removed": 2, "grown": 1, "density": 0.1}}))
    events = collapse_events(runs, told)
    back = json.loads(to_json(events), parse_constant=lambda name: pytest.fail(name))
    assert back[0]["lost_support"] is None
    assert back[0]["shock"] == 1.5
    assert back[0]["layers"] == {"fc": {"removed": 10, "grown": 5, "density": 0.1}}
    again = collapse_events(runs.sample(frac=1, random_state=1), told.sample(frac=1, random_state=2))
    assert to_json(again) == to_json(events)


def under_way(tables: tuple[pd.DataFrame, pd.DataFrame], **reached: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables while the named runs (all where ``every`` is given) have got no further than those epochs."""
    runs, history = tables
    names = dict(zip(TREATMENT.values(), TREATMENT, strict=True))
    name = pd.Series([names[at] for at in zip(runs["prune_rate"], runs["coreset_ratio"], strict=True)])
    last = name.map(lambda one: reached.get(one, reached.get("every", T)))
    status = last.map(lambda epoch: "finished" if epoch == T else "running")
    limit = history["cell_id"].map(dict(zip(runs["cell_id"], last, strict=True)))
    return runs.assign(status=status), history[history["epoch"] <= limit]


EVERY = Detection(select_every=R)


@pytest.mark.parametrize("epoch", range(9, T))
def test_an_event_is_open_until_all_have_reached_its_horizon_and_then_what_it_will_be(epoch: int) -> None:
    """A loss of 30 points at the switch of epoch 15: the median of three shows it from 16 on; the horizon is 25."""
    made = sweep({"joint": step(0.85, 15, 0.30)})
    found = collapse_events(*under_way(made, every=epoch), EVERY)
    if epoch < 16:
        assert found == ()
    elif epoch < 25:
        event = only(found)
        assert (event.epoch, event.status, event.irreversible) == (15, "open", False)
        assert event.waits == ("run", "prune_only", "coreset_only", "dense")
        assert (event.drop, event.recovery, event.horizon) == pytest.approx((0.30, 0.0, 25))
        assert event.reason.endswith(
            "Not settled: epoch 25 is still to be reached by the run, its prune-only control, its coreset-only "
            "control, its dense reference."
        )
    else:
        assert only(found).irreversible
        assert to_json(found) == to_json(collapse_events(*made))


def test_what_recovers_later_is_an_open_event_first_and_a_transient_dip_then() -> None:
    made = sweep({"joint": step(0.85, 15, 0.30, back=21)})
    told = [only(collapse_events(*under_way(made, joint=t), EVERY)) for t in (18, 22, 25)]
    assert [(event.status, event.kind) for event in told] == [
        ("open", "critical_double_loss"),
        ("open", "transient"),
        ("", "transient"),
    ]


@pytest.mark.parametrize(("reached", "kind"), [(0, "unattributed"), (14, "unattributed"), (20, "unattributed")])
def test_a_control_that_is_not_there_yet_is_no_witness(reached: int, kind: str) -> None:
    """The coreset-only control will lose as much, in epoch 15; it has not begun, or not reached the horizon."""
    made = sweep({"joint": step(0.85, 15, 0.30), "coreset": step(0.87, 15, 0.29)})
    early = only(collapse_events(*under_way(made, coreset=reached), EVERY))
    assert (early.kind, early.status, early.waits) == (kind, "open", ("coreset_only",))
    assert early.add == ()
    assert np.isnan(early.control_drop["coreset_only"])
    late = only(collapse_events(*under_way(made, coreset=25), EVERY))
    assert (late.kind, late.cause, late.status, late.irreversible) == ("single_loss", "coreset", "", True)


def test_a_dense_run_that_is_not_there_yet_can_still_move_the_expected_course() -> None:
    """Dense and prune-only rise by 10 points: with both the median change is 10, with one and a flat other it is 5."""
    made = sweep({"dense": step(0.8, 15, -0.1), "prune": step(0.8, 15, -0.1), "joint": step(0.85, 15, 0.1)})
    early = only(collapse_events(*under_way(made, dense=0), EVERY))
    assert (early.status, early.waits) == ("open", ("dense",))
    assert early.drop == pytest.approx(0.15)
    assert only(collapse_events(*made)).drop == pytest.approx(0.20)


def cut(
    tables: tuple[pd.DataFrame, pd.DataFrame], name: str, epoch: int, status: str = "failed", reason: str = "it broke"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables where the named run ended after ``epoch``."""
    runs, history = tables
    mine = (runs["prune_rate"] == TREATMENT[name][0]) & (runs["coreset_ratio"] == TREATMENT[name][1])
    runs = runs.assign(status=runs["status"].mask(mine, status), reason=np.where(mine, reason, None))
    return runs, history[~history["cell_id"].isin(runs.loc[mine, "cell_id"]) | (history["epoch"] <= epoch)]


@pytest.mark.parametrize("status", ["failed", "stopped"])
@pytest.mark.parametrize("epoch", [3, 14, 18, 24])
@pytest.mark.parametrize("lost", [0.0, 0.29])
def test_a_control_that_ended_before_the_horizon_is_no_witness(status: str, epoch: int, lost: float) -> None:
    made = sweep({"joint": step(0.85, 15, 0.30), "coreset": step(0.87, 15, lost)})
    event = only(collapse_events(*cut(made, "coreset", epoch, status)))
    assert (event.kind, event.status, event.irreversible) == ("unattributed", "", False)
    assert np.isnan(event.control_drop["coreset_only"])
    assert event.add == ("(0, 0.1) with seed 0",)
    assert "add or rerun (0, 0.1) with seed 0" in event.reason
    late = only(collapse_events(*cut(made, "coreset", 25, status)))
    assert late.kind == ("single_loss" if lost else "critical_double_loss")


def test_a_control_that_diverged_has_lost_what_it_had() -> None:
    made = sweep({"joint": step(0.85, 15, 0.30)})
    event = only(collapse_events(*cut(made, "coreset", 18, "finished", "diverged")))
    assert (event.kind, event.cause) == ("single_loss", "coreset")
    assert event.control_drop["coreset_only"] == pytest.approx(0.87 - 0.1)


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_of_a_run_that_ended_before_the_horizon_it_is_not_known_whether_a_loss_lasts(status: str) -> None:
    made = sweep({"joint": step(0.85, 15, 0.30, back=22)})
    early = only(collapse_events(*cut(made, "joint", 20, status)))
    assert (early.status, early.censored, early.irreversible, early.horizon) == ("censored", True, False, 20)
    assert "was not back when the run ended (0 % back by epoch 20)" in early.reason
    assert early.reason.endswith("whether the loss lasts is not known.")
    late = only(collapse_events(*cut(made, "joint", 25, status)))
    assert (late.kind, late.censored) == ("transient", False)


def test_a_run_that_ended_early_may_still_have_launched() -> None:
    before = {name: np.where(AT < 16, 0.1, 0.9) for name in FLAT}
    assert only(collapse_events(*cut(sweep({**before, "joint": 0.1}), "joint", 30, "finished"))).never_launched
    assert collapse_events(*cut(sweep(before), "joint", 14)) == ()


def test_a_seed_that_ended_early_says_nothing_of_how_often_it_happens() -> None:
    events, tables = [], [sweep({"joint": step(0.85, 15, 0.30)}) for _ in range(3)]
    for broken in (False, True):
        parts = []
        for seed, one in enumerate(tables):
            runs, history = cut(one, "joint", 12) if broken and seed == 2 else one
            name = {cell: f"{cell}-{seed}" for cell in runs["cell_id"]}
            parts.append((runs.replace({"cell_id": name}).assign(seed=seed), history.replace({"cell_id": name})))
        runs, history = (pd.concat(some, ignore_index=True) for some in zip(*parts, strict=True))
        events.append(collapse_events(runs, history))
    assert [[event.confidence for event in found] for found in events] == [[1.0] * 3, [1.0] * 2]


def test_validation_is_judged_though_some_runs_have_not_begun() -> None:
    runs, history = under_way(sweep({"joint": step(0.85, 15, 0.3)}), dense=0)
    told = history.assign(accuracy_val=history["accuracy_test"])
    assert only(collapse_events(runs, told, EVERY)).accuracy == "val"


def test_an_empty_history_has_no_events() -> None:
    runs, history = sweep({})
    assert collapse_events(runs, history.head(0)) == ()
    assert collapse_events(runs, history) == ()


def test_a_missing_epoch_is_neither_an_event_nor_the_end_of_one() -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)})
    joint = history["cell_id"] == runs["cell_id"].iloc[-1]
    holes = history[~(joint & history["epoch"].isin([9, 14, 15, 21, 25]))]
    assert only(collapse_events(runs, holes)).epoch == 15
    healthy = sweep({})[1]
    assert collapse_events(runs, healthy[~healthy["epoch"].isin([1, 10, 11, 12, 13, 14, 30])]) == ()


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_too_short_for_a_noise_is_no_error(epochs: int) -> None:
    runs, history = sweep({"joint": step(0.85, 10, 0.3)})
    short = history[history["epoch"].between(10, 9 + epochs)]
    short = short.assign(epoch=short["epoch"] - 9)
    assert collapse_events(runs.assign(epochs=epochs), short) == ()


def test_medians() -> None:
    assert np.isnan(median(np.zeros((2, 0)))).all()
    assert median(np.array([[3.0, np.nan, 1.0], [np.nan] * 3, [5.0, 1.0, 2.0]])) == pytest.approx(
        [2.0, np.nan, 2.0], nan_ok=True
    )
    curve = np.array([[0.1, 0.9, 0.3, np.nan, 0.5, np.nan]])
    full = filled(curve, np.array([5]))
    assert full[0] == pytest.approx([0.1, 0.9, 0.3, 0.4, 0.5, np.nan], nan_ok=True)
    assert smooth(full, np.array([5]))[0] == pytest.approx([0.3, 0.3, 0.4, 0.4, 0.4, np.nan], nan_ok=True)


def test_generated_histories_are_told_apart() -> None:
    """A small draw; tests/bench/collapse.py scores a large one."""
    made = generate(4, (0.001, 0.01), seed=5)
    events = [(e.cell_id, e.kind, e.epoch) for e in collapse_events(made.runs, made.history, Detection())]
    alarms, quiet = false_alarms(made, events)
    assert alarms <= 0.02 * quiet
    for score in scores(made, events):
        assert score.recall >= 0.9, score
        assert score.precision >= 0.8, score


def test_a_dip_that_recovers_is_one_whatever_layer_is_dead() -> None:
    """A layer that has been dead since before the switch explains no dip; it is told by itself, once."""
    joint = step(0.85, 15, 0.3, back=18)
    events = collapse_events(*sweep({"joint": joint}, dead_layers=np.where(AT >= 12, 1, 0)))
    assert [(event.kind, event.epoch) for event in events] == [("layer_collapse", 12), ("transient", 15)]
    assert not any(event.irreversible for event in events)
    lasting = collapse_events(*sweep({"joint": step(0.85, 15, 0.3)}, dead_layers=np.where(AT >= 12, 1, 0)))
    assert {event.kind for event in lasting} == {"critical_double_loss", "layer_collapse"}


def test_what_a_control_lost_itself_is_told() -> None:
    """The coreset-only control lost 13 of 43 points: most of it is the joint cell's own, but not all."""
    event = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.43), "coreset": step(0.87, 15, 0.13)})))
    assert event.kind == "critical_double_loss"
    assert "Its coreset-only control lost 13.0 points itself, so 30.0 points are its own" in event.reason
    alone = only(collapse_events(*sweep({"joint": step(0.85, 15, 0.43)})))
    assert "Neither control lost it" in alone.reason


def test_events_of_several_experiments_say_which() -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)})
    more = runs.assign(cell_id=[f"{k:012x}" for k in range(50, 54)], lr=0.5)
    names = dict(zip(runs["cell_id"], more["cell_id"], strict=True))
    both = pd.concat([history, history.assign(cell_id=history["cell_id"].map(names))])
    found = collapse_events(validate_runs(pd.concat([runs.assign(lr=0.05), more])), validate_history(both))
    joint = sorted(event.cell for event in found if event.role == "joint")
    assert [cell.partition(":")[0] for cell in joint] == ["digits, mlp, lr 0.05", "digits, mlp, lr 0.5"]
    assert only(collapse_events(runs, history)).experiment == ""


def test_an_excess_below_the_threshold_is_not_its_own_though_more_than_half() -> None:
    """2.6 of 5 points are the joint cell's own, but 3 make an event."""
    event = only(collapse_events(*sweep({"prune": step(0.88, 15, 0.024), "joint": step(0.85, 15, 0.05)})))
    assert (event.kind, event.cause) == ("single_loss", "prune")
    assert "only 2.6 points are the joint cell's own, no more than the 3.0 points that make an event" in event.reason


def test_confidence_is_the_share_of_seeds_that_show_it() -> None:
    parts = []
    for seed, joint in enumerate((step(0.85, 15, 0.30), 0.85)):
        runs, history = sweep({"joint": joint})
        name = {cell: f"{cell}-{seed}" for cell in runs["cell_id"]}
        parts.append((runs.replace({"cell_id": name}).assign(seed=seed), history.replace({"cell_id": name})))
    runs, history = (pd.concat(some, ignore_index=True) for some in zip(*parts, strict=True))
    assert only(collapse_events(runs, history)).confidence == 0.5


def test_the_level_before_is_the_median_of_the_three_epochs_ahead() -> None:
    event = only(collapse_events(*sweep({"joint": 0.5 + 0.01 * AT - 0.3 * (AT >= 15)})))
    assert (event.epoch, event.before) == (15, pytest.approx(0.63))  # epochs 12, 13, 14


def test_what_had_launched_before_it_lost_samples_did_not_fail_to_launch() -> None:
    """It stood at 85 % and fell to chance: a loss, and nothing else."""
    event = only(collapse_events(*sweep({"joint": np.where(AT < 10, 0.85, 0.1)})))
    assert (event.epoch, event.never_launched, event.kind) == (10, False, "critical_double_loss")


def test_few_samples_do_not_make_a_run_that_learns_one_at_chance() -> None:
    """Of 50 samples at four classes 5 standard deviations are 31 points; 49 % is no chance for all that."""
    runs, history = sweep({name: np.where(AT < 12, 0.25, 0.49) for name in ("dense", "prune", "coreset", "joint")})
    assert collapse_events(runs.assign(chance=0.25, n_test=50, n_val=50), history) == ()


@pytest.mark.parametrize(("level", "never"), [(0.12, True), (0.14, False)])
def test_chance_is_left_by_more_than_three_points(level: float, never: bool) -> None:
    others = {name: np.where(AT < 12, 0.1, 0.9) for name in ("dense", "prune", "coreset")}
    assert only(collapse_events(*sweep({**others, "joint": level}))).never_launched is never


def test_in_runs_of_few_epochs_a_fall_is_not_its_own_noise() -> None:
    """Of a run's two second differences across no switch one holds the fall, which comes an epoch after its switch."""
    runs, history = sweep({"joint": np.where(AT >= 7, 0.1, 0.9)})
    cells = runs.set_index("cell_id")["coreset_ratio"]
    history = history[history["epoch"] <= 8]
    switch = history["epoch"].isin([3, 6]) & (history["cell_id"].map(cells) < 1)
    short = history.assign(switch=switch, samples_removed=np.where(switch, 7, 0))
    event = only(collapse_events(runs.assign(epochs=8), validate_history(short)))
    assert (event.epoch, event.trough_epoch, event.drop) == (6, 7, pytest.approx(0.8))
