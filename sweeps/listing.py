"""The cells that a grid lists: a product of dimensions, each field validated once per value that it takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from core.config import CellConfig, as_dict, canonical_json
from core.data import SOURCES, DataError, Facts, Source
from core.data.source import PLACES
from core.methods import PRUNERS, SELECTORS
from core.models import MODELS
from core.preservation import PRESERVERS
from core.rounding import count
from sweeps.document import Document, Path, SpecError, show
from sweeps.messages import explain, keys_of, unknown_key

MAX_CELLS = 100_000

PLUG_INS: Mapping[str, Mapping[str, type]] = {
    "data": SOURCES,
    "model": MODELS,
    "pruner": PRUNERS,
    "selector": SELECTORS,
    "preservation": PRESERVERS,
}

_DEFAULT = CellConfig()
_TYPES: Mapping[str, Any] = get_type_hints(CellConfig, include_extras=True)
_FIELDS = keys_of([CellConfig])
_ADAPTERS = {name: TypeAdapter(_TYPES[name], config=ConfigDict(allow_inf_nan=False)) for name in _FIELDS}
_PLUG_IN_KEYS = [f"{name}.{key}" for name, table in PLUG_INS.items() for key in keys_of(table.values())]


@dataclass(frozen=True)
class Setting:
    """A key of the cell, dots allowed, the value it is given, and where in the document."""

    key: str
    value: Any
    path: Path

    @property
    def field(self) -> str:
        """The cell's field that the key is or lies in."""
        return self.key.partition(".")[0]


Option: TypeAlias = tuple[Setting, ...]
Point: TypeAlias = tuple[int, ...]


def covers(key: str, other: str) -> bool:
    """Whether a value for ``key`` replaces one for ``other``."""
    return other == key or other.startswith(f"{key}.")


def listed_cells(
    document: Document,
    cell: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    axes: Mapping[str, Sequence[Any]],
) -> tuple[CellConfig, ...]:
    """Every cell of the grid, in grid order. Raises ``SpecError`` on the first problem, at the line that caused it."""
    size = max(1, len(cells)) * math.prod(len(values) for values in axes.values())
    if size > MAX_CELLS:
        raise document.error(
            ("axes",), f"the grid lists {size} cells, but must list at most {MAX_CELLS}; shorten an axis"
        )
    entries = tuple(_settings(entry, ("cells", i)) for i, entry in enumerate(cells)) or ((),)
    ranges = (tuple((Setting(key, value, ("axes", key, i)),) for i, value in enumerate(axes[key])) for key in axes)
    grid = _Grid(document, _settings(cell, ("cell",)), (entries, *ranges))
    grid.check_keys()
    grid.check_axes()
    return tuple(grid.cells())


def _settings(keys: Mapping[str, Any], path: Path) -> Option:
    """Short keys first: ``pruner.stop`` acts on the ``pruner`` beside it."""
    return tuple(Setting(key, keys[key], (*path, key)) for key in sorted(keys, key=lambda key: key.count(".")))


class _Grid:
    """A base and dimensions of options, the file's ``cells`` and then its axes. A point picks one option of each."""

    def __init__(self, document: Document, base: Option, dimensions: tuple[tuple[Option, ...], ...]) -> None:
        self.document = document
        self.base = base
        self.dimensions = dimensions

    def check_keys(self) -> None:
        """Refuse unknown fields, and keys that an axis sets beside the base or the ``cells``."""
        entries = list(itertools.chain(*self.dimensions[0]))
        axes = [options[0][0] for options in self.dimensions[1:]]
        for setting in (*self.base, *entries, *axes):
            if setting.field not in (_FIELDS if setting.field == setting.key else PLUG_INS):
                raise self.document.error(setting.path[:3], unknown_key(setting.key, _FIELDS, _PLUG_IN_KEYS))
        for setting, axis in itertools.product((*self.base, *entries), axes):
            if covers(axis.key, setting.key):
                sentence = f"{setting.key} is set here and varied by axes.{axis.key}; keep one"
                raise self.document.error(setting.path, sentence)

    def check_axes(self) -> None:
        """Refuse an axis that gives one value twice, however it is spelled."""
        for place in range(1, len(self.dimensions)):
            first: dict[Any, Any] = {}
            for i, (setting,) in enumerate(self.dimensions[place]):
                value = self._value(setting.field, self._point([place], [i]))
                if value in first:
                    values = " and ".join(dict.fromkeys((show(first[value]), show(setting.value))))
                    raise self.document.error(setting.path, f"axes.{setting.key} lists {values} twice; keep one")
                first[value] = setting.value

    def cells(self) -> Iterator[CellConfig]:
        """Build every cell and check that its fields fit together."""
        given = {setting.field for setting in itertools.chain(self.base, *itertools.chain(*self.dimensions))}
        tables = {name: self._table(name) for name in _FIELDS if name in given}
        seen: set[CellConfig] = set()
        checks = _Checks()
        for point in itertools.product(*(range(len(options)) for options in self.dimensions)):
            cell = self._cell({name: table[tuple(point[i] for i in at)] for name, (at, table) in tables.items()}, point)
            if cell in seen:
                raise self._twice(point)
            seen.add(cell)
            for name, sentence in checks.problems(cell):
                raise self._error(point, name, sentence)
            yield cell

    def _cell(self, values: Mapping[str, Any], point: Point) -> CellConfig:
        try:
            return CellConfig(**values)
        except ValidationError as error:
            context = error.errors()[0]["ctx"]
            raise self._error(point, context["key"], context["reason"]) from None

    def _table(self, name: str) -> tuple[Point, dict[Point, Any]]:
        """The dimensions that set ``name``, and its value for every choice from them."""
        fields = [{setting.field for setting in itertools.chain(*options)} for options in self.dimensions]
        at = tuple(i for i, of_dimension in enumerate(fields) if name in of_dimension)
        choices = itertools.product(*(range(len(self.dimensions[i])) for i in at))
        return at, {choice: self._value(name, self._point(at, choice)) for choice in choices}

    def _point(self, at: Sequence[int], choice: Sequence[int]) -> Point:
        picked = dict(zip(at, choice, strict=True))
        return tuple(picked.get(i, 0) for i in range(len(self.dimensions)))

    def _settings(self, point: Point, name: str) -> list[Setting]:
        """What sets ``name`` at this point; the last one wins."""
        options = (options[i] for options, i in zip(self.dimensions, point, strict=True))
        return [setting for setting in itertools.chain(self.base, *options) if setting.field == name]

    def _value(self, name: str, point: Point) -> Any:
        """The validated value of a field at a point; its default when nothing sets it."""
        settings = self._settings(point, name)
        default = getattr(_DEFAULT, name)
        data: Any = default.name if name in PLUG_INS else default
        for setting in settings:
            data = _put(data, setting.key.split(".")[1:], setting.value)
        try:
            return _ADAPTERS[name].validate_python(data)
        except ValidationError as error:
            path, sentence = explain(error, data, _TYPES[name], (name,))
            raise self.document.error(_origin(settings, (name, *path)), sentence) from None

    def _error(self, point: Point, name: str, sentence: str) -> SpecError:
        """An error about a field at a point, at the line that sets it."""
        settings = self._settings(point, name)
        return self.document.error(settings[-1].path if settings else ("cell",), sentence)

    def _twice(self, point: Point) -> SpecError:
        chosen = [setting for options, i in zip(self.dimensions, point, strict=True) for setting in options[i]]
        cell = ", ".join(f"{setting.key} {show(setting.value)}" for setting in chosen)
        return self.document.error(chosen[0].path[:2], f"the cell with {cell} is listed twice; keep one")


def _put(data: Any, rest: Sequence[str], value: Any) -> Any:
    """``data`` with ``value`` at a path of keys; a plug-in's bare name becomes a mapping on the way."""
    if not rest:
        return value
    known = data if isinstance(data, Mapping) else {"name": data} if isinstance(data, str) else {}
    return {**known, rest[0]: _put(known.get(rest[0]), rest[1:], value)}


def _origin(settings: Sequence[Setting], path: Path) -> Path:
    """Where in the document the value at ``path`` of the cell comes from."""
    for setting in reversed(settings):
        key = tuple(setting.key.split("."))
        if path[: len(key)] == key:
            return (*setting.path, *path[len(key) :])
    return settings[-1].path


@dataclass(frozen=True)
class _Checks:
    """What no single field can tell; remembers what it has seen."""

    facts: dict[Source, Facts] = field(default_factory=dict)
    places: dict[str, Source] = field(default_factory=dict)
    fitting: set[tuple[Source, float]] = field(default_factory=set)

    def problems(self, cell: CellConfig) -> Iterator[tuple[str, str]]:
        """The field and the sentence of what is wrong with the cell."""
        if (cell.data, cell.coreset_ratio) not in self.fitting:
            self.fitting.add((cell.data, cell.coreset_ratio))
            yield from self._place_problems(cell.data)
            yield from self._data_problems(cell)

    def _place_problems(self, source: Source) -> Iterator[tuple[str, str]]:
        """A cell is named by what it trains on, not by where that lies: one data set, one place."""
        parameters = {key: value for key, value in as_dict(source, defaults=True).items() if key not in PLACES}
        first = self.places.setdefault(canonical_json(parameters), source)
        if first != source:
            here, there = (getattr(place, "root", "") for place in (source, first))
            yield "data", f"data {source.name} is read from {here} here and from {there} elsewhere; keep one place"

    def _facts_of(self, source: Source) -> Facts:
        """Asked once per source: of a folder, all files are listed."""
        if source not in self.facts:
            self.facts[source] = source.facts()
        return self.facts[source]

    def _data_problems(self, cell: CellConfig) -> Iterator[tuple[str, str]]:
        try:
            facts = self._facts_of(cell.data)
        except DataError as error:
            yield "data", str(error)
            return
        if cell.data.val_fraction > 0 and not facts.val_size:
            kept = f"data.val_fraction {cell.data.val_fraction:g} takes none of {facts.train_size} samples"
            yield "data", f"{kept} to validate on; raise it, or make it 0 to do without"
        size = count(cell.coreset_ratio, facts.train_size)
        if size < facts.num_classes:
            enough = f"take at least {facts.num_classes / facts.train_size:.2g}"
            if facts.num_classes > facts.train_size:
                enough = "raise data.subset, or lower data.val_fraction"
            kept = f"coreset_ratio {cell.coreset_ratio:g} keeps {size} of {facts.train_size} training samples"
            yield "coreset_ratio", f"{kept}, fewer than the {facts.num_classes} classes; {enough}"
