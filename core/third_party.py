"""Methods of other packages: classes that an installed distribution offers under an entry point.

They join our own of their kind. One that cannot join is left out with a reason, and nothing else fails for it.
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
class Refusal:
    """A method that is left out: its name, the package that offers it, and why, in words."""

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} of {self.distribution} is left out ({self.reason}): correct or remove the package"


@dataclass(frozen=True)
class Offers(Generic[T]):
    """What other packages offer of one kind: the ``classes`` that have joined, by name, and the others."""

    classes: Mapping[str, type[T]]
    refused: tuple[Refusal, ...]


class RefusedError(ValueError):
    """What is offered cannot join."""


def offered(group: str, protocol: type[T], ours: Mapping[str, type[T]]) -> Offers[T]:
    """What installed distributions offer under the entry point ``group``, in the order of names.

    A class joins when it is a plug-in of ``protocol`` that can be chosen by the entry point's name alone, and that name
    is not taken. Its ``distribution`` then says where it comes from.
    """
    classes: dict[str, type[T]] = {}
    refused: list[Refusal] = []
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, _distribution(entry))):
        try:
            cls = _accepted(entry, protocol, {**ours, **classes})
        except Exception as error:  # whatever a stranger's module does when it is imported
            refused.append(Refusal(entry.name, _distribution(entry), _reason(error)))
        else:
            cls.distribution = _distribution(entry)  # type: ignore[attr-defined]
            classes[entry.name] = cls
    return Offers(classes, tuple(refused))


def _accepted(entry: EntryPoint, protocol: type[T], taken: Mapping[str, type[T]]) -> type[T]:
    """The class, once it is known to work as a member of the table. Raises whatever is wrong with it."""
    if entry.name in taken:
        raise RefusedError(f"the name is taken by {getattr(taken[entry.name], 'distribution', '') or 'SWaST Sweep'}")
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, protocol)):
        raise RefusedError(f"{entry.value} is no subclass of {protocol.__module__}.{protocol.__qualname__}")
    field = getattr(cls, "__dataclass_fields__", {}).get("name")
    if "__dataclass_fields__" not in vars(cls) or field is None or field.default != entry.name:
        raise RefusedError(f'{entry.value} must be under @plugin with name: Literal["{entry.name}"] = "{entry.name}"')
    TypeAdapter(choice({**taken, entry.name: cls})).validate_python(entry.name)
    return cls


def _reason(error: Exception) -> str:
    """The first line of an error, told of its kind where it is not ours."""
    line = " ".join((str(error).splitlines() or [""])[0].split())
    return line if isinstance(error, RefusedError) else f"{type(error).__name__}: {line}"


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
