"""The frontier search: what it may choose, what it pays, and that it finds a frontier that is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sweeps.cells import expand
from sweeps.frontier import Candidate, Space, choose, space
from sweeps.plan import make_plan
from sweeps.policy import FrontierSearch
from sweeps.sampler import COLLAPSED, FIELDS, FrontierSampler
from sweeps.spec import SpecError, parse
from tests.bench.frontier import Table, repetition
from tests.sweeps.grid import GRID

RATES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975)
RATIOS = (0.52, 0.32, 0.22, 0.16, 0.12, 0.08, 0.05, 0.03)
FRONTIER = GRID.replace("coreset_ratio: [1, 0.1]", "coreset_ratio: [1, 0.5, 0.1]") + "frontier: {}\n"


def grid(rates: Iterable[float], ratios: Iterable[float], seeds: int, share: float) -> tuple[Space, int]:
    """Joint cells named by their place, their controls as the orchestration shares them."""
    found = [
        Candidate(f"{p}/{a}/{s}", 0, p, a, s, frozenset({f"{p}/{a}/{s}", f"{p}/1/{s}", f"0/{a}/{s}", f"0/1/{s}"}))
        for p in rates
        for a in ratios
        for s in range(seeds)
    ]
    cells = len(frozenset().union(*(c.needs for c in found)))
    return Space(tuple(found), round(share * cells)), cells


def known(seed: int) -> Table:
    """Three seeds that collapse below alpha*(p), rising by 6 steps over the rates, each seed a little elsewhere."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 0.3, 3)
    where, cells = grid(RATES, RATIOS, 3, 0.3)
    outcome: dict[str, bool | None] = {}
    for c in where.candidates:
        edge = 7.5 - 6 * (RATES.index(c.prune_rate) / 9) ** 1.5 + shift[c.seed]
        outcome[c.cell_id] = bool(rng.random() < 1 / (1 + np.exp(-4 * (RATIOS.index(c.coreset_ratio) - edge))))
    return Table(where, cells, outcome, outcome)


def test_a_grids_joint_cells_with_their_controls() -> None:
    spec = parse(FRONTIER)
    assert spec.frontier is not None
    cells = expand(spec)
    found = space(cells, spec.frontier)
    assert {(c.prune_rate, c.coreset_ratio, c.seed) for c in found.candidates} == {
        (0.5, a, s) for a in (0.5, 0.1) for s in (0, 1)
    }
    assert {c.variant for c in found.candidates} == {0}
    assert all(len(c.needs) == 4 and c.cell_id in c.needs for c in found.candidates)
    assert found.spent(found.by_id) == {cell.cell_id for cell in cells.cells}
    assert found.budget == 4  # of 2 x (dense, prune-only, 2 coreset-only, 2 joint) = 12: 3.6


def test_other_methods_are_other_variants() -> None:
    text = FRONTIER.replace("  selector: el2n\n", "").replace("axes:\n", "axes:\n  selector: [el2n, random]\n")
    found = space(expand(parse(text)), FrontierSearch())
    assert {(c.variant, c.coreset_ratio) for c in found.candidates} == {(v, a) for v in (0, 1) for a in (0.5, 0.1)}


@pytest.mark.parametrize(("warmups", "variants"), [("[0, 2]", 2), ("[null, 2]", 2), ("[2]", 1), ("[null]", 1)])
def test_a_warm_up_that_is_swept_is_a_variant_and_one_that_follows_the_ratio_is_not(
    warmups: str, variants: int
) -> None:
    """Of two cells at one place and seed the search once knew one alone, and asked for the other for ever."""
    text = FRONTIER.replace("  warmup_epochs: 2\n", "").replace("axes:\n", f"axes:\n  warmup_epochs: {warmups}\n")
    found = space(expand(parse(text)), FrontierSearch())
    assert len({c.variant for c in found.candidates}) == variants
    places = {(c.variant, c.prune_rate, c.coreset_ratio, c.seed) for c in found.candidates}
    assert len(places) == len(found.candidates) == 4 * variants


def test_controls_are_paid_once_and_the_budget_holds() -> None:
    """(p, 1), (0, a) and (0, 1) come with the first cell: 4; a second ratio costs 2; a second seed 4 again."""
    where, cells = grid((0.5,), (0.5, 0.1), 2, 0.5)
    assert (cells, where.budget) == (12, 6)
    assert len(where.spent(["0.5/0.5/0"])) == 4
    assert len(where.spent(["0.5/0.5/0", "0.5/0.1/0"])) == 6
    assert [c.cell_id for c in where.affordable(["0.5/0.5/0"])] == ["0.5/0.1/0"]
    assert choose(where, {"0.5/0.5/0": False, "0.5/0.1/0": True}, (), np.random.default_rng(0)) is None


def test_the_undecided_cell_between_is_chosen() -> None:
    """One rate, one seed, 8 ratios, the two ends known: the middle ones are undecided, the ends' neighbours are not."""
    where, _ = grid((0.5, 0.9), RATIOS, 1, 1.0)
    outcomes: dict[str, bool | None] = {f"{p}/{a}/0": a < 0.1 for p in (0.5, 0.9) for a in (0.52, 0.32, 0.05, 0.03)}
    found = choose(where, outcomes, (), np.random.default_rng(0))
    assert found is not None
    assert found.coreset_ratio in (0.16, 0.12)


def test_what_is_running_is_not_asked_for_again_and_tells_in_advance() -> None:
    where, _ = grid((0.5, 0.9), RATIOS, 2, 1.0)
    running: list[str] = []
    for _ in range(8):
        found = choose(where, {}, running, np.random.default_rng(0))
        assert found is not None
        assert found.cell_id not in running
        running.append(found.cell_id)
    places = {(where.by_id[cell_id].prune_rate, where.by_id[cell_id].coreset_ratio) for cell_id in running}
    assert len(places) >= 6  # and not the most telling cell with every seed first


def test_a_cell_without_a_verdict_is_paid_and_not_asked_for_again() -> None:
    where, _ = grid((0.5,), (0.5, 0.1), 1, 1.0)
    found = choose(where, {"0.5/0.5/0": None}, (), np.random.default_rng(0))
    assert found is not None
    assert found.cell_id == "0.5/0.1/0"


@pytest.mark.parametrize("seed", range(5))
def test_a_known_frontier_is_found_within_a_step_and_better_than_at_random(seed: int) -> None:
    found = repetition(known(seed), seed, draws=15)
    assert found.cells <= 0.3 * 297
    assert found.search.max() <= 1
    assert found.search.max() < np.median(found.random.max(axis=1))
    assert found.search.mean() < np.median(found.random.mean(axis=1))


def study(where: Space, seed: int = 0) -> tuple[optuna.Study, FrontierSampler]:
    sampler = FrontierSampler(where, seed)
    return optuna.create_study(sampler=sampler), sampler


def asked(where: Space, seed: int = 0) -> list[tuple[object, ...]]:
    """Every trial until the budget lasts for none; cells collapse below .1."""
    made, sampler = study(where, seed)
    while sampler.affordable(made):
        trial = made.ask(sampler.distributions)
        trial.set_user_attr(COLLAPSED, trial.params["coreset_ratio"] < 0.1)
        made.tell(trial, 0.0)
    return [tuple(trial.params[name] for name in FIELDS) for trial in made.trials]


def test_the_sampler_asks_within_the_budget_each_cell_once() -> None:
    where, _ = grid((0.5, 0.9), RATIOS, 2, 0.5)
    found = asked(where)
    assert len(set(found)) == len(found) > 3
    assert len(where.spent(f"{p}/{a}/{s}" for p, a, s, _ in found)) <= where.budget
    made, sampler = study(Space(where.candidates, 3))
    with pytest.raises(RuntimeError, match="3 cells lasts for no further trial; raise budget_cells"):
        made.ask(sampler.distributions)


def test_the_same_seed_asks_alike_also_in_another_process() -> None:
    where, _ = grid((0.5, 0.9), RATIOS, 2, 0.5)
    code = "from tests.sweeps.test_frontier import *\nprint(asked(grid((0.5, 0.9), RATIOS, 2, 0.5)[0]))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip().splitlines()[-1] == str(asked(where))
    assert asked(where) != asked(where, seed=1)


def test_a_failed_trial_is_paid_and_a_running_one_awaited() -> None:
    where, _ = grid((0.5, 0.9), RATIOS, 1, 1.0)
    made, sampler = study(where)
    for state in (TrialState.FAIL, None, None):
        trial = made.ask(sampler.distributions)
        if state is not None:
            made.tell(trial, state=state)
    assert len({tuple(trial.params.values()) for trial in made.trials}) == 3


def test_a_cell_is_never_asked_for_by_halves() -> None:
    where, _ = grid((0.5,), (0.5, 0.1), 1, 1.0)
    made, _ = study(where)
    with pytest.raises(ValueError, match="lr is no coordinate of a cell"):
        made.ask().suggest_float("lr", 0, 1)


ERRORS = {
    "percentage": (
        "{}",
        "{budget_cells: 30}",
        "frontier.budget_cells is 30, but must be at most 1 (did you mean 0.3?)",
    ),
    "nothing": ("{}", "{budget_cells: 0}", "frontier.budget_cells is 0, but must be above 0"),
    "unknown key": ("{}", "{budget: 0.3}", "frontier.budget is not a known key (did you mean budget_cells?); allowed"),
    "no mapping": ("{}", "0.3", "frontier is 0.3, but must be a mapping with budget_cells, seed"),
    "one ratio": ("[1, 0.5, 0.1]", "[1, 0.1]", "but the grid has 0.1; list two below 1 at least"),
    "no baselines": (
        "frontier: {}",
        "frontier: {}\nbaselines: false",
        "but baselines is false; leave one of the two out",
    ),
    "early stopping": (
        "frontier: {}",
        "frontier: {}\nearly_stopping: {below: 0.2}",
        "early_stopping gives cells up; keep one of the two",
    ),
    "no validation": (
        "  epochs: 12\n",
        "  epochs: 12\n  data: {name: digits, val_fraction: 0.0}\n",
        "frontier looks at validation accuracy, but data.val_fraction is 0; raise it or leave frontier out",
    ),
}


@pytest.mark.parametrize(("old", "new", "sentence"), list(ERRORS.values()), ids=list(ERRORS))
def test_a_search_that_cannot_be_is_refused_at_its_line(old: str, new: str, sentence: str) -> None:
    text = FRONTIER.replace(old, new, 1)
    assert text != FRONTIER
    with pytest.raises(SpecError) as error:
        parse(text, file="grid.yaml")
    assert sentence in str(error.value)
    at = next(i for i, line in enumerate(text.splitlines(), 1) if line.startswith("frontier"))
    assert f"grid.yaml, line {at}:" in str(error.value)


def test_the_command_line_sets_and_takes_away_the_search() -> None:
    changed = parse(FRONTIER, overrides=["frontier.budget_cells=0.5"]).frontier
    assert changed == FrontierSearch(budget_cells=0.5)
    assert parse(FRONTIER, overrides=["frontier=null"]).frontier is None
    assert parse(parse(FRONTIER).text).frontier == FrontierSearch()


def test_a_plan_says_what_a_search_may_spend() -> None:
    rows = dict(make_plan(parse(FRONTIER)).rows())
    assert rows["frontier search"] == "trains 4 cells at most (33%); below: the whole grid"
    assert "frontier search" not in dict(make_plan(parse(GRID)).rows())
    assert make_plan(parse(FRONTIER)).as_dict()["budget_cells"] == 4


def test_the_search_alone_loads_optuna() -> None:
    code = (
        "import sys, sweeps.spec, sweeps.plan, sweeps.frontier, orchestration.commands\nprint('optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
