"""Every way to get a grid file wrong, and the one sentence that says so."""

import time
from pathlib import Path

import pytest

from sweeps.spec import SpecError, load, parse
from tests.sweeps.grid import GRID

IN_FILE = {
    "unknown section": (
        "axes:",
        "axis:",
        "line 7: axis is not a known key (did you mean axes?); allowed here: name, cell",
    ),
    "unknown field": ("epochs:", "epoch:", "line 2: epoch is not a known key (did you mean epochs?)"),
    "field of a plug-in": (
        "epochs:",
        "update_every:",
        "line 2: update_every is not a known key (did you mean pruner.upd",
    ),
    "unknown axis": ("  seed:", "  sede:", "line 10: sede is not a known key (did you mean seed?)"),
    "part of a number": ("  seed:", "  lr.x:", "line 10: lr.x is not a known key"),
    "unknown parameter": (
        "update_every",
        "updat_every",
        "line 5: pruner.updat_every is not a known key (did you mean update_every?); allowed here: name, alloc",
    ),
    "unknown part of a parameter": (
        "per_interval",
        "per_intervall",
        "line 5: pruner.update_every.per_intervall is not a known key (did you mean per_interval?)",
    ),
    "unknown method": ("rigl", "rigle", "line 5: pruner.name is rigle, but must be one of 'none', 'random', 'snip'"),
    "nearest method": ("rigl", "rigle", "(did you mean rigl?)"),
    "unknown bare method": (
        "el2n",
        "el3n",
        "line 6: selector is el3n, but must be one of 'none', 'random', 'gradmatch'",
    ),
    "method without a name": (
        "el2n",
        "{balanced: true}",
        "line 6: selector is {balanced: true}, but must be a name or",
    ),
    "method that is a number": (
        "el2n",
        "3",
        "line 6: selector is 3, but must be a name or a mapping with one, of none, ra",
    ),
    "text for a number": ("0.5]", "'0.5']", "line 8: prune_rate is '0.5', but must be a number"),
    "flag for a number": ("0.5]", "true]", "line 8: prune_rate is true, but must be a number"),
    "fraction for a count": ("epochs: 12", "epochs: 1.5", "line 2: epochs is 1.5, but must be a whole number"),
    "null": ("epochs: 12", "epochs:", "line 2: epochs is null, but must be a whole number"),
    "infinite": ("epochs: 12", "lr: .inf", "line 2: lr is .inf, but must be a finite number"),
    "not a number": ("epochs: 12", "lr: .nan", "line 2: lr is .nan, but must be a finite number"),
    "yes is text": ("epochs: 12", "nesterov: yes", "line 2: nesterov is yes, but must be true or false"),
    "off is text": ("epochs: 12", "nesterov: off", "line 2: nesterov is off, but must be true or false"),
    "unknown word": (
        "epochs: 12",
        "scope: al",
        "line 2: scope is al, but must be 'all', 'backbone' or 'classifier' (did",
    ),
    "prune rate 1": ("0.5]", "1]", "line 8: prune_rate is 1, but must be below 1"),
    "coreset ratio 0": ("0.1]", "0]", "line 9: coreset_ratio is 0, but must be above 0"),
    "below the range": ("epochs: 12", "epochs: 0", "line 2: epochs is 0, but must be at least 1"),
    "endless run": ("epochs: 12", "epochs: 1000000000", "line 2: epochs is 1000000000, but must be at most 100000"),
    "alternatives": (
        "{per_interval: 5}",
        "often",
        "line 5: pruner.update_every is often, but must be a whole number or a mapping with per_interval",
    ),
    "deep range": (
        "{per_interval: 5}",
        "{per_interval: 0}",
        "pruner.update_every.per_interval is 0, but must be at least 1",
    ),
    "in a list": (
        "epochs: 12",
        "model: {name: mlp, hidden: [8, x]}",
        "model.hidden[1] is x, but must be a whole number",
    ),
    "empty axis": ("[0, 1]", "[]", "line 10: axes.seed is [], but must be a list of at least 1"),
    "axis that is no list": ("[0, 1]", "0", "line 10: axes.seed is 0, but must be a list"),
    "value twice": ("0.5]", "0.5, 0.50]", "line 8: axes.prune_rate lists 0.5 twice; keep one"),
    "value twice in two spellings": (
        "seed: [0, 1]",
        "preservation: [none, {name: none}]",
        "line 10: axes.preservation lists none and {name: none} twice",
    ),
    "no pruner": (
        "name: rigl, update_every: {per_interval: 5}",
        "name: none",
        "prune_rate 0.5 needs a pruner; set pruner",
    ),
    "no selector": ("el2n", "none", "line 9: coreset_ratio 0.1 needs a selector; set selector, one of random"),
    "no selection": (
        "select_every: 3",
        "select_every: 20",
        "line 3: select_every 20 (the default): the first selection would be in ep",
    ),
    "no momentum": ("epochs: 12", "momentum: 0", "nesterov: true needs a momentum above 0"),
    "fewer samples than classes": (
        "0.1]",
        "0.005]",
        "line 9: coreset_ratio 0.005 keeps 6 of 1294 training samples, fewer than the 10 classes; take at least 0.0077",
    ),
    "fewer samples than classes whatever the ratio": (
        "epochs: 12",
        "data: {name: digits, subset: 5}",
        "fewer than the 10 classes; raise data.subset, or lower data.val_fraction",
    ),
    "nothing to validate on": (
        "epochs: 12",
        "data: {name: digits, val_fraction: 0.0001}",
        "line 2: data.val_fraction 0.0001 takes none of 1438 samples to validate on; raise it, or make it 0",
    ),
    "too large a subset": (
        "epochs: 12",
        "data: {name: digits, subset: 5000}",
        "line 2: data.subset is 5000, but digits has",
    ),
    "missing data": (
        "epochs: 12",
        "data: {name: parquet, root: nowhere}",
        "line 2: no train-*.parquet at nowhere: download",
    ),
    "key twice": ("epochs: 12", "seed: 1\n  seed: 2", "line 3: seed is given twice, first in grid, line 2; keep one"),
    "alias": ("epochs: 12", "epochs: &t 12\n  seed: *t", "line 3: not valid YAML: the alias *t is not allowed"),
    "tag": (
        "epochs: 12",
        "epochs: !!python/object:os.system 12",
        "line 2: the tag !!python/object:os.system is not allowed",
    ),
    "impossible tag": ("epochs: 12", "epochs: !!float abc", "line 2: abc cannot be read as !!float"),
    "list as key": ("epochs: 12", "? [1]\n  : 2", "line 2: a key must be text, not a list or a mapping"),
    "open bracket": ("[0, 1]", "[0, 1", "not valid YAML: "),
    "tabulator": (
        "  epochs",
        "\tepochs",
        "line 2: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
    ),
    "percentage": ("0.5]", "50]", "line 8: prune_rate is 50, but must be below 1 (did you mean 0.5?)"),
    "second document": ("axes:", "---\naxes:", "line 7: not valid YAML: but found another document"),
    "endless number": ("epochs: 12", "epochs: " + "9" * 5000, "line 2: '999"),
    "folder that climbs": ("axes:", "name: ../x\naxes:", "line 7: name is ../x, but names a folder: use letters"),
    "hidden folder": ("axes:", "name: .git\naxes:", "line 7: name is .git, but names a folder"),
    "folder like an option": ("axes:", "name: -rf\naxes:", "line 7: name is -rf, but names a folder"),
    "name that is a number": ("axes:", "name: 1\naxes:", "line 7: name is 1, but must be text"),
    "resources": (
        "axes:",
        "resources: {cpu: 1}\naxes:",
        "line 7: resources.cpu is not a known key (did you mean cpus?)",
    ),
    "no processor": ("axes:", "resources: {cpus: 0}\naxes:", "line 7: resources.cpus is 0, but must be above 0"),
    "resources as a number": (
        "axes:",
        "resources: 2\naxes:",
        "resources is 2, but must be a mapping with cpus, gpus, max",
    ),
    "cells as a mapping": ("axes:", "cells: {seed: 1}\naxes:", "line 7: cells is {seed: 1}, but must be a list"),
    "cell twice": (
        "axes:",
        "cells: [{lr: 0.1}, {lr: 0.10}]\naxes:",
        "line 7: the cell with lr 0.1, prune_rate 0, coreset_",
    ),
    "cells against an axis": (
        "axes:",
        "cells: [{seed: 5}]\naxes:",
        "line 7: seed is set here and varied by axes.seed; keep",
    ),
    "base against an axis": (
        "epochs: 12",
        "seed: 5",
        "line 2: seed is set here and varied by axes.seed; keep one",
    ),
    "unknown key in cells": (
        "axes:",
        "cells: [{sede: 5}]\naxes:",
        "line 7: sede is not a known key (did you mean seed?)",
    ),
    "wrong value in cells": ("axes:", "cells:\n- {lr: 1}\n- {lr: -1}\naxes:", "line 9: lr is -1, but must be above 0"),
}

BY_SET = {
    "seed=3": "seed is an axis of the grid; write --set 'axes.seed=[...]' to change its values",
    "cell.seed=3": "seed is an axis of the grid",
    "lr=fast": "lr is fast, but must be a number",
    "lr='0.1'": "lr is '0.1', but must be a number",
    "data.rot=x": "data.rot is not a known key; allowed here: name, val_fraction",
    "axes.seed=[0, 0]": "axes.seed lists 0 twice",
    "axes.sede=[0]": "sede is not a known key (did you mean seed?)",
    "cell=3": "cell is 3, but must be a mapping",
    "baselines=no": "baselines is no, but must be true or false",
    "checkpoint_seconds=-1": "checkpoint_seconds is -1, but must be at least 0",
    "epochs": "write --set KEY=VALUE",
    "=3": "write --set KEY=VALUE",
    "lr=[": "not valid YAML",
    "lr=*x": "not valid YAML: the alias *x is not allowed",
    "name=a/b": "name is a/b, but names a folder",
}


@pytest.mark.parametrize(("old", "new", "sentence"), IN_FILE.values(), ids=list(IN_FILE))
def test_one_sentence_names_the_line(old: str, new: str, sentence: str) -> None:
    assert old in GRID
    with pytest.raises(SpecError) as caught:
        parse(GRID.replace(old, new, 1))
    message = str(caught.value)
    assert message.startswith("grid, line ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("override", BY_SET)
def test_an_override_is_named_as_it_was_given(override: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(GRID, overrides=[override])
    assert str(caught.value).startswith(f"--set {override}: {BY_SET[override]}")


def test_one_data_set_in_two_places_would_be_one_cell_twice() -> None:
    axis = "data: [{name: cifar10, root: A, download: true}, {name: cifar10, root: B, download: true}]"
    with pytest.raises(SpecError, match="line 10: data cifar10 is read from B here and from A elsewhere; keep one pl"):
        parse(GRID.replace("seed: [0, 1]", axis))


def test_an_axis_that_is_set_replaces_what_the_base_says() -> None:
    spec = parse(GRID, overrides=["axes.selector=[random]"])
    assert {cell.selector.name for cell in spec.listed} == {"random"}


def test_an_override_without_effect_is_refused() -> None:
    grid = GRID.replace("axes:", "cells:\n- {lr: 0.1}\n- {lr: 0.2}\naxes:")
    with pytest.raises(SpecError, match="grid, line 8: lr is set here, so --set lr=3 has no effect"):
        parse(grid, overrides=["lr=3"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "grid: a grid file is a mapping of keys to values, not null"),
        ("- 1", "grid: a grid file is a mapping of keys to values, not [1]"),
        ("a: \0", "grid: not valid YAML"),
        ("a: " + "[" * 30_000, "grid, line 1: not valid YAML: nested deeper than 20"),
        ("#" * 1_000_001, "grid: too large for a grid file; at most 1000000 bytes"),
    ],
)
def test_a_text_that_is_no_grid(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert str(caught.value).startswith(sentence)


def test_a_billion_cells_are_refused_at_once_with_their_count() -> None:
    values = list(range(1000))
    axes = f"axes:\n  seed: {values}\n  warmup_epochs: {values}\n  data.split_seed: {values}\n"
    started = time.perf_counter()
    with pytest.raises(SpecError, match="grid, line 1: the grid lists 1000000000 cells, but must list at most 100000"):
        parse(axes)
    assert time.perf_counter() - started < 5


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing\.yaml: the grid file cannot be read: No such file"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(SpecError, match="the grid file cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not text in UTF-8"):
        load(tmp_path / "bytes.yaml")
    (tmp_path / "bad name.yaml").write_text(GRID)
    with pytest.raises(SpecError, match="name is bad name, but names a folder"):
        load(tmp_path / "bad name.yaml")
