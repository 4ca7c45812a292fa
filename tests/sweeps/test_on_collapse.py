"""What a grid file may say about cells that collapse."""

import pytest

from sweeps.spec import SpecError, parse
from tests.sweeps.grid import GRID

STOP = GRID + "on_collapse: stop\n"
ERRORS = {
    "another word": ("stop", "abort", "on_collapse is abort, but must be 'stop' or 'branch_with_preservation'"),
    "no validation": (
        "  epochs: 12\n",
        "  epochs: 12\n  data: {name: digits, val_fraction: 0.0}\n",
        "on_collapse looks at validation accuracy, but data.val_fraction is 0; raise it or leave on_collapse out",
    ),
    "no baselines": (
        "on_collapse: stop",
        "on_collapse: stop\nbaselines: false",
        "on_collapse compares cells with their controls, but baselines is false; leave one of the two out",
    ),
    "epochs without an accuracy": (
        "on_collapse: stop",
        "on_collapse: stop\nevaluate_every: 2",
        "on_collapse looks at the accuracy after every epoch, but evaluate_every is 2; make it 1",
    ),
    "a search": (
        "on_collapse: stop",
        "on_collapse: stop\nfrontier: {}",
        "on_collapse is about cells of a whole grid, but frontier trains a part of it; keep one of the two",
    ),
}


@pytest.mark.parametrize(("old", "new", "sentence"), list(ERRORS.values()), ids=list(ERRORS))
def test_what_cannot_be_is_refused_at_its_line(old: str, new: str, sentence: str) -> None:
    text = STOP.replace(old, new, 1)
    with pytest.raises(SpecError) as error:
        parse(text, file="grid.yaml")
    assert sentence in str(error.value)
    at = next(i for i, line in enumerate(text.splitlines(), 1) if line.startswith("on_collapse"))
    assert f"grid.yaml, line {at}:" in str(error.value)


def test_nothing_is_done_unless_the_grid_says_so() -> None:
    assert parse(GRID).on_collapse is None
    assert parse(STOP, overrides=["on_collapse=null"]).on_collapse is None
    assert parse(GRID, overrides=["on_collapse=stop"]).on_collapse == "stop"
    assert parse(parse(STOP).text).on_collapse == "stop"
