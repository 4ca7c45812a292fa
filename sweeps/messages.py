"""Pydantic's errors as one sentence: the key, its value, what is allowed, and the nearest name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.methods import OFFERS
from sweeps.document import Path, dotted, show

_ALLOWED: Mapping[str, str] = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags}",
}
_NEEDS_CLASS = ("dataclass_type", "model_attributes_type", "union_tag_not_found")
_UNKNOWN_KEY = "unexpected_keyword_argument"


def explain(error: ValidationError, data: Any, root: Any, prefix: Path = ()) -> tuple[Path, str]:
    """The path inside ``data`` of the most telling problem, and a sentence about it.

    ``root`` is the type that ``data`` was validated against; ``prefix`` comes before the key in the sentence.
    """
    problems = [(_path(detail, data), detail) for detail in error.errors()]
    # In a union every member complains. The deepest complaint is about what was meant; those at one place are
    # alternatives.
    depth = max(len(path) for path, _ in problems)
    deepest = [(path, detail) for path, detail in problems if len(path) == depth]
    path, first = next((found for found in deepest if found[1]["type"] == _UNKNOWN_KEY), deepest[0])
    key = dotted((*prefix, *path))
    if first["type"] == _UNKNOWN_KEY:
        return path, unknown_key(key, keys_of(_classes_at(root, data, path[:-1])))
    if first["type"] == "missing":
        return path[:-1], f"{key} is missing"
    value = _value_at(data, path)
    if first["type"] == "union_tag_invalid" and isinstance(value, Mapping):
        key, value = f"{key}.name", value["name"]
    allowed = [_allowed(detail, _classes_at(root, data, path)) for other, detail in deepest if other == path]
    hint = _left_out(value, key) or _meant(value, allowed) or _percent(value, first)
    return path, f"{key} is {show(value)}, but must be {' or '.join(dict.fromkeys(allowed))}{hint}"


def unknown_key(key: str, allowed: Sequence[str], elsewhere: Sequence[str] = ()) -> str:
    """The sentence about a key that does not exist. A name meant may also be one ``elsewhere``."""
    return f"{key} is not a known key{_nearest(key, (*elsewhere, *allowed))}; allowed here: {', '.join(allowed)}"


def _nearest(word: str, names: Iterable[str]) -> str:
    """A question after the name most like ``word``, or nothing; only what follows the last dot is compared."""
    by_leaf = {name.rpartition(".")[2]: name for name in names}
    found = difflib.get_close_matches(word.rpartition(".")[2], list(by_leaf), n=1)
    return f" (did you mean {by_leaf[found[0]]}?)" if found else ""


def keys_of(classes: Iterable[type]) -> list[str]:
    """The fields of these classes, ``name`` first, each once."""
    keys = dict.fromkeys(field.name for cls in classes for field in fields(cls))
    return sorted(keys, key=lambda key: key != "name")


def _meant(value: object, allowed: Iterable[str]) -> str:
    names = re.findall(r"'([^']*)'", " ".join(allowed))
    return _nearest(value, names) if isinstance(value, str) else ""


def _left_out(value: object, key: str) -> str:
    """What became of another package's method, where it is named and cannot be used."""
    offers = OFFERS.get(key.partition(".")[0])
    return "".join(f"; {refusal}" for refusal in (offers.refused if offers else ()) if refusal.name == value)


def _percent(value: object, detail: ErrorDetails) -> str:
    """A question after the fraction meant by a number that looks like a percentage."""
    bound = detail.get("ctx", {})
    of_one = bound.get("lt", bound.get("le")) == 1
    return f" (did you mean {value / 100:g}?)" if of_one and isinstance(value, (int, float)) and value >= 2 else ""


def _allowed(detail: ErrorDetails, classes: list[type]) -> str:
    kind, values = detail["type"], detail.get("ctx", {})
    if kind in _NEEDS_CLASS:
        names = [str(field.default) for cls in classes for field in fields(cls) if field.name == "name"]
        keys = ", ".join(keys_of(classes))
        return f"a name or a mapping with one, of {', '.join(names)}" if names else f"a mapping with {keys}"
    return _ALLOWED[kind].format(**values) if kind in _ALLOWED else detail["msg"]


def _path(detail: ErrorDetails, data: Any) -> Path:
    """Where in ``data`` the problem is: its location without the tags of unions, which are no keys there."""
    path: list[int | str] = []
    for part in detail["loc"]:
        if part in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(part, int):
            path.append(part)
            data = _value_at(data, (part,))
    missing = detail["loc"][-1:] if detail["type"] == "missing" else ()
    return (*path, *missing)


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _classes_at(root: Any, data: Any, path: Path) -> list[type]:
    """The plug-in classes that the value at ``path`` may be, or the one that it names."""
    classes = _named(_classes(root), data)
    for part in path:
        hints = [get_type_hints(cls, include_extras=True).get(str(part)) for cls in classes]
        data = _value_at(data, (part,)) if isinstance(data, (Mapping, list)) else None
        classes = _named([found for hint in hints for found in _classes(hint)], data)
    return classes


def _classes(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and is_dataclass(annotation):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _classes(argument)]


def _named(classes: list[type], data: Any) -> list[type]:
    name = data.get("name") if isinstance(data, Mapping) else data
    chosen = [cls for cls in classes if getattr(cls, "name", None) == name]
    return chosen if chosen else classes
