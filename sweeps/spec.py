"""A grid file as a checked value: every cell that it lists, or one sentence on what is wrong with it.

A file gives the base ``cell``, the ``axes`` whose product is taken, and optionally ``cells``, a list of overrides that
is crossed with the axes. Keys of all three are fields of the cell, with dots into plug-ins (``pruner.stop``). A value
stands for its whole field; axes win over ``cells``, and those over ``cell``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from core.config import CellConfig, prunes
from core.measurements import Measurements
from core.plugin import Count, Flag, Natural, NonNegative, Positive, Text, plugin
from sweeps.document import MAX_BYTES, Document, SpecError, read, read_value, show, write
from sweeps.listing import covers, listed_cells
from sweeps.messages import explain, unknown_key
from sweeps.policy import EarlyStopping, FrontierSearch, OnCollapse, Resources, unknown_keys

__all__ = ["GridFile", "SpecError", "SweepSpec", "load", "parse"]

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@plugin
class GridFile:
    """What may stand in a grid file."""

    name: Text
    cell: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    baselines: Flag = True
    resources: Resources = Resources()
    early_stopping: EarlyStopping | None = None
    on_collapse: OnCollapse | None = None
    frontier: FrontierSearch | None = None
    checkpoint_seconds: NonNegative = 30.0
    epoch_timeout: Positive = 3600.0
    support_samples: Natural = 2048
    evaluate_every: Count = 1


@dataclass(frozen=True)
class SweepSpec:
    """A checked grid.

    ``listed`` are its cells as written, not yet canonical, in grid order: ``cells`` first, the last axis fastest.
    ``baselines``: whether the controls of joint cells are added. ``on_collapse``: what is done about cells that
    collapse; ``None`` for nothing. ``frontier``: the grid is searched, not trained as a whole. ``checkpoint_seconds``:
    a checkpoint is due at the first epoch end after so many seconds, besides every segment's end. ``epoch_timeout``: a
    worker whose epoch takes more seconds than that is taken for hung, and replaced.
    """

    name: str
    listed: tuple[CellConfig, ...]
    axes: tuple[str, ...]
    baselines: bool
    resources: Resources
    early_stopping: EarlyStopping | None
    on_collapse: OnCollapse | None
    frontier: FrontierSearch | None
    checkpoint_seconds: float
    epoch_timeout: float
    measurements: Measurements
    text: str
    """The resolved grid file: YAML that gives the same specification."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a grid file. ``overrides`` are KEY=VALUE, as given to ``--set``.

    Raises ``SpecError`` with one sentence.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # One byte more than is allowed: enough to refuse a file of any size.
            text = file.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise SpecError(f"{path}: the grid file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: the grid file is not text in UTF-8") from None
    return parse(text, file=path.name, name=path.stem, overrides=overrides)


def parse(text: str, *, file: str = "grid", name: str = "grid", overrides: Sequence[str] = ()) -> SweepSpec:
    """Check the text of a grid file. ``file`` is what errors call it, ``name`` the sweep's name if it gives none.

    Raises ``SpecError``.
    """
    document = read(text, file)
    for override in overrides:
        document = _override(document, override)
    data = {"name": name, **document.data}
    grid = _grid_file(document, data)
    listed = listed_cells(document, grid.cell, grid.cells, grid.axes)
    _check_policy(document, grid, listed)
    return SweepSpec(
        name=grid.name,
        listed=listed,
        axes=tuple(grid.axes),
        baselines=grid.baselines,
        resources=grid.resources,
        early_stopping=grid.early_stopping,
        on_collapse=grid.on_collapse,
        frontier=grid.frontier,
        checkpoint_seconds=grid.checkpoint_seconds,
        epoch_timeout=grid.epoch_timeout,
        measurements=Measurements(grid.support_samples, grid.evaluate_every),
        text=write(data),
    )


def _grid_file(document: Document, data: Mapping[str, Any]) -> GridFile:
    try:
        grid = _GRID_FILE.validate_python(data)
    except ValidationError as error:
        path, sentence = explain(error, data, GridFile)
        raise document.error(path, sentence) from None
    if not _FOLDER_NAME.fullmatch(grid.name):
        allowed = "letters, digits, '.', '_' and '-', at most 100 and not starting with '.' or '-'"
        raise document.error(("name",), f"name is {show(grid.name)}, but names a folder: use {allowed}")
    return grid


def _check_policy(document: Document, grid: GridFile, listed: Sequence[CellConfig]) -> None:
    for place, key, known in unknown_keys(grid.resources.rules, listed):
        raise document.error(("resources", "rules", place, "where", key), unknown_key(key, known))
    if grid.early_stopping is not None and any(cell.data.val_fraction == 0 for cell in listed):
        sentence = "early_stopping looks at validation accuracy, but data.val_fraction is 0; raise it or leave it out"
        raise document.error(("early_stopping",), sentence)
    for key, asked, problem in (
        ("on_collapse", grid.on_collapse, _no_reaction(grid)),
        ("frontier", grid.frontier, _no_frontier(grid, listed)),
    ):
        if asked is not None and (told := _no_detection(grid, listed, key) or problem) is not None:
            raise document.error((key,), f"{key} {told}")


def _no_detection(grid: GridFile, listed: Sequence[CellConfig], key: str) -> str | None:
    """Why no collapse can be told while the grid is trained, which ``key`` lives on."""
    if any(cell.data.val_fraction == 0 for cell in listed):
        return f"looks at validation accuracy, but data.val_fraction is 0; raise it or leave {key} out"
    if not grid.baselines:
        return "compares cells with their controls, but baselines is false; leave one of the two out"
    return None


def _no_reaction(grid: GridFile) -> str | None:
    """Why nothing can be done about cells that collapse."""
    if grid.frontier is not None:
        return "is about cells of a whole grid, but frontier trains a part of it; keep one of the two"
    if grid.evaluate_every > 1:
        return f"looks at the accuracy after every epoch, but evaluate_every is {grid.evaluate_every}; make it 1"
    return None


def _no_frontier(grid: GridFile, listed: Sequence[CellConfig]) -> str | None:
    """Why a grid's frontier cannot be searched for."""
    if grid.early_stopping is not None:
        return "needs every cell that it asks for to its end, but early_stopping gives cells up; keep one of the two"
    ratios = sorted({cell.coreset_ratio for cell in listed if prunes(cell) and cell.coreset_ratio < 1})
    if len(ratios) < 2:
        told = ", ".join(f"{ratio:g}" for ratio in ratios) or "none"
        return f"lies between coreset ratios of pruned cells, but the grid has {told}; list two below 1 at least"
    return None


_GRID_FILE = TypeAdapter(GridFile)
_SECTIONS = tuple(set(GridFile.__dataclass_fields__) - {"cell"})


def _override(document: Document, override: str) -> Document:
    """The document after ``--set KEY=VALUE``. A key that is none of the file's sections is a field of the cell."""
    key, equals, text = override.partition("=")
    origin = f"--set {override}"
    if not equals or not key:
        raise SpecError(f"{origin}: write --set KEY=VALUE")
    value = read_value(text, origin)
    section, _, rest = key.partition(".")
    if section == "axes" and rest:
        document = _without(document, rest)
    if section in _SECTIONS:
        # Keys of axes keep their dots: axes.pruner.stop is the axis pruner.stop.
        return document.with_value((section, rest) if rest else (section,), value, origin)
    field_key = rest if section == "cell" else key
    _refuse_if_varied(document, field_key, origin)
    return document.with_value(("cell", field_key) if field_key else ("cell",), value, origin)


def _without(document: Document, axis: str) -> Document:
    """The document without what the base says of an axis that is about to be given."""
    cell = document.data.get("cell")
    if not isinstance(cell, Mapping):
        return document
    return replace(document, data={**document.data, "cell": {k: v for k, v in cell.items() if not covers(axis, k)}})


def _refuse_if_varied(document: Document, key: str, origin: str) -> None:
    """Raise ``SpecError`` when an axis or the ``cells`` would overwrite what ``--set`` gives ``key``."""
    axes, cells = document.data.get("axes"), document.data.get("cells")
    for axis in axes if isinstance(axes, Mapping) else ():
        if covers(axis, key):
            raise SpecError(
                f"{origin}: {key} is an axis of the grid; write --set 'axes.{axis}=[...]' to change its values"
            )
    for index, entry in enumerate(cells if isinstance(cells, list) else ()):
        if isinstance(entry, Mapping) and any(covers(other, key) for other in entry):
            raise document.error(("cells", index), f"{key} is set here, so {origin} has no effect; change it here")
