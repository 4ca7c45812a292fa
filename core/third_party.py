"""Methods of other packages: classes that an installed distribution offers under an entry point.

They join the table of their kind when it is made. One that cannot join is left out with a reason, and nothing else
fails for it: ``swast doctor`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from core.plugin import choice

T = TypeVar("T")


@dataclass(frozen=True)
class Offers(Generic[T]):
    """``classes`` by name, and for each that was refused who offers it and, in one sentence, why it is left out."""

    classes: Mapping[str, type[T]]
    refused: tuple[tuple[str, str], ...]


class RefusedError(ValueError):
    """What is offered cannot join the table."""


def offered(group: str, protocol: type[T], ours: Mapping[str, type[T]]) -> Offers[T]:
    """What installed distributions offer under the entry point ``group``, in the order of names.

    A class joins when it is a plug-in of ``protocol`` that can be chosen by the entry point's name alone, and that name
    is not taken. Its ``distribution`` then says where it comes from.
    """
    classes: dict[str, type[T]] = {}
    refused: list[tuple[str, str]] = []
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, _distribution(entry))):
        try:
            cls = _accepted(entry, protocol, {**ours, **classes})
        except Exception as error:  # whatever a stranger's module does when it is imported
            reason = " ".join((str(error).splitlines() or [""])[0].split())
            said = reason if isinstance(error, RefusedError) else f"{type(error).__name__}: {reason}"
            refused.append(
                (f"{group} {entry.name} of {_distribution(entry)}", f"{said}; correct or remove the package")
            )
        else:
            cls.distribution = _distribution(entry)  # type: ignore[attr-defined]
            classes[entry.name] = cls
    return Offers(classes, tuple(refused))


def _accepted(entry: EntryPoint, protocol: type[T], taken: Mapping[str, type[T]]) -> type[T]:
    """The class, once it is known to work as a member of the table. Raises whatever is wrong with it."""
    if entry.name in taken:
        owner = getattr(taken[entry.name], "distribution", "") or "SWaST Sweep itself"
        raise RefusedError(f"the name {entry.name} is taken by {owner}")
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, protocol)):
        raise RefusedError(f"{entry.value} is no subclass of {protocol.__module__}.{protocol.__qualname__}")
    field = getattr(cls, "__dataclass_fields__", {}).get("name")
    if "__dataclass_fields__" not in vars(cls) or field is None or field.default != entry.name:
        raise RefusedError(f'{entry.value} must be under @plugin with name: Literal["{entry.name}"] = "{entry.name}"')
    TypeAdapter(choice({**taken, entry.name: cls})).validate_python(entry.name)
    return cls


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
