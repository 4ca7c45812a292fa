"""Everything that can be plugged in, as plain rows: what ``swast methods`` and the README's tables show."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter

from core.config import CellConfig, as_dict
from core.data import SOURCES
from core.methods import OFFERS, PRUNERS, SELECTORS
from core.models import MODELS
from core.preservation import PRESERVERS

KINDS: Mapping[str, Mapping[str, type[Any]]] = {
    "pruner": PRUNERS,
    "selector": SELECTORS,
    "preservation": PRESERVERS,
    "data": SOURCES,
    "model": MODELS,
}


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter of a plug-in."""

    name: str
    default: str
    allowed: str
    what: str = ""


@dataclass(frozen=True)
class Method:
    """A plug-in as it is shown."""

    kind: str
    name: str
    summary: str
    source: str
    settings: tuple[Setting, ...]
    description: str
    when: str = ""
    cost: str = ""
    distribution: str = ""
    """Of a method that another package brings."""


def methods(kind: str | None = None) -> tuple[Method, ...]:
    """Every plug-in, or those of one kind, in the order of the tables."""
    tables = KINDS if kind is None else {kind: KINDS[kind]}
    return tuple(_method(kind, cls) for kind, table in tables.items() for cls in table.values())


def left_out(name: str | None = None) -> tuple[str, ...]:
    """A sentence on every method of another package that cannot be used, or on those of one name."""
    refused = (refusal for offers in OFFERS.values() for refusal in offers.refused)
    return tuple(str(refusal) for refusal in refused if name in (None, refusal.name))


def cell() -> Method:
    """The fields of one run: what a grid file's ``cell`` may hold."""
    fields_ = _settings(CellConfig)
    return Method("grid", "cell", "one run: what cell, cells and axes of a grid file may set", "", fields_, "")


def _method(kind: str, cls: type[Any]) -> Method:
    source, name = getattr(cls, "source", ""), cls.__dataclass_fields__["name"].default
    told = {line: getattr(cls, line, "") for line in ("when", "cost", "distribution")}
    return Method(kind, str(name), cls.summary, source, _settings(cls), inspect.cleandoc(cls.__doc__ or ""), **told)


def _settings(cls: type[Any]) -> tuple[Setting, ...]:
    schema = TypeAdapter(cls).json_schema()
    properties = {name: rule for name, rule in schema["properties"].items() if name != "name"}
    defaults = {field.name: field.default for field in fields(cls)}
    words = _words(cls)
    return tuple(
        Setting(name, _plain(defaults[name]), _allowed(rule, schema.get("$defs", {})), words.get(name, ""))
        for name, rule in properties.items()
    )


def _words(cls: type[Any]) -> dict[str, str]:
    """What each field is, as the class that declares it says; pydantic forgets what a parent class said."""
    declared = (field for base in reversed(cls.__mro__) for field in vars(base).get("__pydantic_fields__", {}).items())
    return {name: field.description for name, field in declared if field.description}


def _plain(default: Any) -> str:
    value = default
    if is_dataclass(default):
        value = default.name if hasattr(default, "name") else as_dict(default, defaults=True)
    return value if isinstance(value, str) else json.dumps(value)


def _allowed(rule: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON-schema rule in words, ranges as intervals."""
    if "discriminator" in rule:
        return " or ".join(rule["discriminator"]["mapping"])
    if "anyOf" in rule:
        return " or ".join(_allowed(option, definitions) for option in rule["anyOf"])
    if "$ref" in rule:
        inner = definitions[rule["$ref"].rpartition("/")[2]]["properties"]
        return "{" + ", ".join(f"{name}: {_allowed(sub, definitions)}" for name, sub in inner.items()) + "}"
    if "enum" in rule:
        return " or ".join(map(str, rule["enum"]))
    if rule.get("type") == "array":
        return f"list of {_allowed(rule['items'], definitions)}" if "items" in rule else "list"
    return str(rule.get("type", "any")) + _interval(rule)


def _interval(rule: Mapping[str, Any]) -> str:
    low, high = rule.get("minimum", rule.get("exclusiveMinimum")), rule.get("maximum", rule.get("exclusiveMaximum"))
    if low is None and high is None:
        return ""
    left = "(-inf" if low is None else f"{'[' if 'minimum' in rule else '('}{low:g}"
    right = "inf)" if high is None else f"{high:g}{']' if 'maximum' in rule else ')'}"
    return f" in {left}, {right}"


def markdown(kind: str) -> str:
    """A kind's table as the README prints it: what is ours."""
    lines = [f"| {kind} | what it does | settings |", "|---|---|---|"]
    for method in methods(kind):
        if method.distribution:
            continue
        settings = ", ".join(f"`{setting.name}: {setting.default}`" for setting in method.settings)
        lines.append(f"| `{method.name}` | {method.summary} | {settings} |")
    return "\n".join(lines)
