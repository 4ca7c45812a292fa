"""Longest remaining path first, on forests worked by hand and drawn at random."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.scheduler import Scheduler, simulate
from sweeps.stages import Chain, Segment


def chains_of(*paths: str) -> dict[str, Chain]:
    """``"abc"``: three segments, equal prefixes shared, each one epoch long; the whole text is the cell's name."""
    return {p: tuple(Segment(p[: i + 1], i + 1, i + 1) for i in range(len(p))) for p in paths}


def weights(chains: dict[str, Chain], heavy: dict[str, float] | None = None) -> dict[Segment, float]:
    return {s: (heavy or {}).get(s.stage, 1.0) for chain in chains.values() for s in chain}


def test_the_trunk_goes_on_with_its_longest_branch_and_the_others_wait_for_it() -> None:
    chains = chains_of("tab", "tc", "td")
    scheduler = Scheduler(chains, weights(chains, {"td": 1.5}))
    assert scheduler.next() == "tab"
    assert scheduler.next() is None
    scheduler.reached("tab", 1)
    assert [scheduler.next(), scheduler.next(), scheduler.next()] == ["td", "tc", None]
    assert scheduler.finished("tab") == ("tab",)
    assert scheduler.finished("tc") == ("tc",)
    assert scheduler.left == 1
    assert scheduler.finished("td") == ("td",)
    assert (scheduler.left, scheduler.next()) == (0, None)


def test_a_long_trunk_goes_before_a_short_cell_that_is_listed_earlier() -> None:
    chains = chains_of("x", "ta", "tb")
    scheduler = Scheduler(chains, weights(chains))
    assert [scheduler.next(), scheduler.next()] == ["ta", "x"]


def test_equal_chains_are_trained_once() -> None:
    chains = chains_of("ta", "tb")
    chains["twin"] = chains["ta"]
    scheduler = Scheduler(chains, weights(chains))
    assert scheduler.next() == "ta"
    scheduler.reached("ta", 1)
    assert scheduler.next() == "tb"
    assert scheduler.next() is None
    assert scheduler.finished("ta") == ("ta", "twin")


def test_another_cell_takes_over_the_trunk_of_one_that_failed() -> None:
    chains = chains_of("ta", "tb")
    scheduler = Scheduler(chains, weights(chains, {"ta": 2}))
    assert scheduler.next() == "ta"
    scheduler.released("ta", again=False)
    assert scheduler.next() == "tb"
    assert scheduler.next() is None
    scheduler.finished("tb")
    assert scheduler.left == 0


def test_a_cell_whose_worker_died_is_handed_out_again() -> None:
    chains = chains_of("ta", "tb")
    scheduler = Scheduler(chains, weights(chains, {"ta": 2}))
    assert scheduler.next() == "ta"
    scheduler.reached("ta", 1)
    assert scheduler.next() == "tb"
    scheduler.released("ta", again=True)
    assert scheduler.next() == "ta"
    assert scheduler.finished("ta") == ("ta",)


def test_a_trunk_that_diverges_ends_all_its_cells() -> None:
    chains = chains_of("ta", "tb", "u")
    scheduler = Scheduler(chains, weights(chains))
    assert scheduler.next() == "ta"
    assert set(scheduler.diverged("ta", 1)) == {"ta", "tb"}
    assert scheduler.next() == "u"
    assert scheduler.finished("u") == ("u",)
    assert scheduler.left == 0


def test_a_branch_that_diverges_ends_only_itself() -> None:
    chains = chains_of("ta", "tb")
    scheduler = Scheduler(chains, weights(chains))
    assert scheduler.next() == "ta"
    assert scheduler.diverged("ta", 2) == ("ta",)
    assert scheduler.next() == "tb"


def test_what_is_there_already_is_not_waited_for() -> None:
    chains = chains_of("ta", "tb")
    scheduler = Scheduler(chains, weights(chains), done={chains["ta"][0]})
    assert {scheduler.next(), scheduler.next()} == {"ta", "tb"}


def test_a_simulated_cluster_by_hand() -> None:
    chains = chains_of("ta", "tb", "u")
    seconds = weights(chains, {"t": 4.0, "ta": 3.0, "tb": 2.0, "u": 5.0})
    one, two, many = (simulate(chains, seconds, workers) for workers in (1, 2, 9))
    assert (one.makespan, one.utilisation) == (14.0, 1.0)
    assert (two.makespan, two.critical_path) == (7.0, 7.0)
    assert two.utilisation == 1.0
    assert many.makespan == 7.0
    assert simulate(chains, seconds, 1, dispatch=1.0).makespan == 17.0
    with pytest.raises(ValueError, match="0 workers: give 1 or more"):
        simulate(chains, seconds, 0)


PATHS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


def prefix_free(paths: list[str]) -> list[str]:
    return [p for p in paths if not any(q != p and q.startswith(p) for q in paths)]


@given(PATHS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_segment_is_trained_once_and_never_before_its_trunk(
    paths: list[str], workers: int, random: Random
) -> None:
    chains = chains_of(*prefix_free(paths))
    work = {s: random.choice([0.0, 1.0, 3.0]) for s in sorted(weights(chains))}
    scheduler = Scheduler(chains, work)
    trained: list[Segment] = []
    running: dict[str, list[Segment]] = {}
    while scheduler.left:
        while len(running) < workers and (cell := scheduler.next()) is not None:
            running[cell] = [s for s in chains[cell] if s not in trained]
            held = [s for other, todo in running.items() if other != cell for s in todo]
            assert not set(held) & set(running[cell])
        cell = random.choice(sorted(running))
        if random.random() > 0.9:
            scheduler.released(cell, again=True)
            del running[cell]
            continue
        segment = running[cell].pop(0)
        parent = chains[cell][: chains[cell].index(segment)]
        assert set(parent) <= set(trained)
        trained.append(segment)
        if running[cell]:
            scheduler.reached(cell, segment.last)
        else:
            assert cell in scheduler.finished(cell)
            del running[cell]
    assert sorted(trained) == sorted(set(work))


@given(PATHS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_simulation_is_within_the_bounds_of_list_scheduling(paths: list[str], workers: int, random: Random) -> None:
    chains = chains_of(*prefix_free(paths))
    seconds = {s: random.choice([0.5, 1.0, 3.0]) for s in sorted(weights(chains))}
    found = simulate(chains, seconds, workers)
    total = sum(seconds.values())
    assert max(found.critical_path, total / workers) <= found.makespan + 1e-9
    assert found.makespan <= total / workers + found.critical_path + 1e-9
    assert found.utilisation == pytest.approx(total / (workers * found.makespan))


def test_what_does_not_fit_is_passed_over_and_comes_later() -> None:
    chains = chains_of("ab", "b", "c")
    scheduler = Scheduler(chains, weights(chains))
    assert scheduler.next(lambda cell: cell != "ab") == "b"
    assert scheduler.next(lambda _: False) is None
    assert [scheduler.next(), scheduler.next(), scheduler.next()] == ["ab", "c", None]
    assert scheduler.left == 3
