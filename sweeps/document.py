"""A YAML text as plain data that remembers where each value was written, so that errors can name the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import yaml

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = Callable[[Any], str]
"""From a mark of PyYAML, or ``None``, to what errors call the place."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 20


class SpecError(ValueError):
    """A grid file that cannot be run: one sentence with the file, the line, the key, its value and what is allowed."""


@dataclass(frozen=True)
class Document:
    """Plain data (mappings, lists, text, numbers, flags, null) and the place of every value by its path."""

    file: str
    data: Mapping[str, Any]
    places: Mapping[Path, str]

    def error(self, path: Path, sentence: str) -> SpecError:
        """``sentence`` after the place of ``path``, or of the nearest thing around it that was written."""
        known = (self.places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.places)
        return SpecError(f"{next(known, self.file)}: {sentence}")

    def with_value(self, path: Path, value: Any, place: str) -> Document:
        """The document with ``value`` at ``path``; mappings on the way are made when they are missing.

        Raises ``SpecError`` when something on the way is no mapping.
        """
        data = self._put(self.data, path, value, path)
        kept = {known: where for known, where in self.places.items() if known[: len(path)] != path}
        return Document(self.file, data, {**kept, path: place})

    def _put(self, data: Any, rest: Path, value: Any, path: Path) -> Any:
        if not rest:
            return value
        if not isinstance(data, Mapping):
            raise self.error(path, f"{path[len(path) - len(rest) - 1]} is {show(data)}, not a mapping")
        return {**data, rest[0]: self._put(data.get(rest[0], {}), rest[1:], value, path)}


def show(value: Any) -> str:
    """A value as a person would write it in the file, cut to one short line."""
    text = yaml.dump(value, Dumper=GridDumper, default_flow_style=True, width=10**6, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...").replace("\n", " ")
    return text if len(text) <= 80 else f"{text[:77]}..."


def write(data: Mapping[str, Any]) -> str:
    """``data`` as YAML that ``read`` turns back into the same data."""
    return yaml.dump(data, Dumper=GridDumper, sort_keys=False, width=120)


def read(text: str, file: str) -> Document:
    """Parse a whole grid file. Raises ``SpecError``."""
    places: dict[Path, str] = {}
    data = _parse(text, places, lambda mark: f"{file}, line {mark.line + 1}" if mark else file)
    if not isinstance(data, dict):
        raise SpecError(f"{file}: a grid file is a mapping of keys to values, not {show(data)}")
    return Document(file, data, places)


def read_value(text: str, origin: str) -> Any:
    """Parse the value of a ``--set``; ``origin`` names it in errors. Raises ``SpecError``."""
    return _parse(text, {}, lambda _: origin)


def _parse(text: str, places: dict[Path, str], place: Place) -> Any:
    if len(text.encode()) > MAX_BYTES:
        raise SpecError(f"{place(None)}: too large for a grid file; at most {MAX_BYTES} bytes")
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Builder(place, places).build(node, ())
    except yaml.MarkedYAMLError as error:
        hint = "; indent with spaces" if "\\t" in str(error.problem) else ""
        raise SpecError(f"{place(error.problem_mark)}: not valid YAML: {error.problem}{hint}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{place(None)}: not valid YAML: {' '.join(str(error).split())}") from None


# YAML 1.2's core schema. YAML 1.1, PyYAML's own, reads 1e-3 as text, and on, off, yes and no as flags.
_SCHEMA: Mapping[str, tuple[str, str]] = {
    "null": (r"(?:~|null|Null|NULL|)$", "~nN\0"),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"[-+]?[0-9]+$", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$",
        "-+.0123456789",
    ),
}
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses aliases, which can make a short file endless, and nesting that no grid needs."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            problem = f"the alias *{event.anchor} is not allowed: write the value out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=cast("Any", event.start_mark))
        if self.depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class GridDumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)


for _kind, (_pattern, _first) in _SCHEMA.items():
    for _class in (_Loader, GridDumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), [c.strip("\0") for c in _first])


@dataclass(frozen=True)
class _Builder:
    """Turns nodes into plain data, noting the place of each in ``places``."""

    place: Place
    places: dict[Path, str]

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.places[path] = self.place(node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node.value, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar(node)
        tag = node.tag.replace(_TAG, "!!")
        raise SpecError(f"{self.place(node.start_mark)}: the tag {tag} is not allowed; write plain values")

    def _mapping(self, pairs: Iterable[tuple[yaml.Node, yaml.Node]], path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in pairs:
            if not isinstance(key, yaml.ScalarNode):
                raise SpecError(f"{self.place(key.start_mark)}: a key must be text, not a list or a mapping")
            if key.value in data:
                first = self.places[(*path, key.value)]
                raise SpecError(f"{self.place(key.start_mark)}: {key.value} is given twice, first in {first}; keep one")
            data[key.value] = self.build(value, (*path, key.value))
            self.places[(*path, key.value)] = self.place(key.start_mark)
        return data

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return _SCALARS[node.tag.removeprefix(_TAG)](node.value)
        except (ValueError, KeyError):
            shown = show(node.value)
            raise SpecError(
                f"{self.place(node.start_mark)}: {shown} cannot be read as {node.tag.replace(_TAG, '!!')}"
            ) from None


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "str": str,
}


def dotted(path: Sequence[str | int]) -> str:
    """A path as it is written in a key: ``("axes", "prune_rate", 2)`` is ``axes.prune_rate[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
