"""How a plug-in is declared and chosen by name.

A plug-in (pruner, selector, preserver, data source, model) is a frozen dataclass whose fields are its
hyper-parameters. The first field is ``name: Literal["..."] = "..."``; a literal table per kind lists the classes.
Values are validated when the object is made, from Python and from a grid file alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, Union, cast, dataclass_transform

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, Strict

T = TypeVar("T")

Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0)]
NonNegative = Annotated[float, Strict(), Field(ge=0)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
BelowOne = Annotated[float, Strict(), Field(ge=0, lt=1)]
PruneRate = BelowOne
Ratio = Annotated[float, Strict(), Field(gt=0, le=1)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def plugin(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen, keyword-only dataclass that refuses unknown keys, wrong types and values out of range.

    Raises ``pydantic.ValidationError`` on construction with a bad value.
    """
    rules = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=rules)(cls)
    return cast("type[T]", made)


def named(classes: Iterable[type[T]]) -> dict[str, type[T]]:
    """The table of a kind of plug-in: its ``name`` to its class, in the order given."""
    return {str(cls.__dataclass_fields__["name"].default): cls for cls in classes}  # type: ignore[attr-defined]


def choice(table: dict[str, type[T]]) -> Any:
    """The field type of a plug-in chosen from ``table``: a name, ``{name: ..., key: value}``, or an instance."""
    classes: Any = Union.__getitem__(tuple(table.values()))
    return Annotated[classes, Field(discriminator="name"), BeforeValidator(_by_name)]


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value
