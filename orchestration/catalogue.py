"""Everything that can be plugged in, as plain rows: what ``swast methods`` and the README's tables show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from core.coresets import SELECTORS
from core.data import SOURCES
from core.models import MODELS
from core.preservation import PRESERVERS
from core.pruning import PRUNERS

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
    type: str
    default: str


@dataclass(frozen=True)
class Method:
    """A plug-in as it is shown."""

    kind: str
    name: str
    summary: str
    source: str
    settings: tuple[Setting, ...]
    description: str


def methods(kind: str | None = None) -> tuple[Method, ...]:
    """Every plug-in, or those of one kind, in the order of the tables."""
    tables = KINDS if kind is None else {kind: KINDS[kind]}
    return tuple(_method(kind, cls) for kind, table in tables.items() for cls in table.values())


def _method(kind: str, cls: type[Any]) -> Method:
    settings = tuple(_setting(field) for field in fields(cls) if field.name != "name")
    name = str(cls.__dataclass_fields__["name"].default)
    return Method(kind, name, cls.summary, getattr(cls, "source", ""), settings, cls.__doc__ or "")


def _setting(field: Any) -> Setting:
    default = field.default if field.default is not MISSING else field.default_factory()
    return Setting(field.name, str(field.type).replace("Annotated", ""), str(default))


def markdown(kind: str) -> str:
    """A kind's table as the README prints it."""
    lines = [f"| {kind} | what it does | settings |", "|---|---|---|"]
    for method in methods(kind):
        settings = ", ".join(f"`{setting.name}: {setting.default}`" for setting in method.settings)
        lines.append(f"| `{method.name}` | {method.summary} | {settings} |")
    return "\n".join(lines)
