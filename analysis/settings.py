"""How the runs of a folder were made, as the plan beside them says: fields in common, and the environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAN = "plan.json"
PARTS = ("common", "varied", "environment")
MOST = 12
"""Values of a field that are listed."""
# The paper's symbols, in the order in which it introduces them.
SYMBOLS = {
    "epochs": "T",
    "warmup_epochs": "K",
    "select_every": "R",
    "prune_rate": "p",
    "coreset_ratio": "α",
    "preservation_weight": "λ",
}


@dataclass(frozen=True)
class Setting:
    """A field and its value in words; ``symbol`` is the paper's, empty where it has none."""

    field: str
    value: str
    symbol: str = ""


@dataclass(frozen=True)
class Settings:
    """What all cells share, in what they differ, and what they ran on; empty where nothing is known."""

    common: tuple[Setting, ...] = ()
    varied: tuple[Setting, ...] = ()
    environment: tuple[Setting, ...] = ()

    @property
    def select_every(self) -> int | None:
        """R in epochs, where all cells share one."""
        told = next((setting.value for setting in self.common if setting.field == "select_every"), "")
        return int(told) if told.isdecimal() else None


def read(folder: Path) -> tuple[Settings, tuple[str, ...]]:
    """The keys ``PARTS`` of plan.json, all optional, and a note if the file is damaged."""
    path = folder / PLAN
    if not path.exists():
        return Settings(), ()
    try:
        plan = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return Settings(), (f"{PLAN} cannot be read ({_first_line(error)}): the page shows no settings.",)
    if not isinstance(plan, Mapping):
        return Settings(), (f"{PLAN} holds {_kind(plan)}, not an object: the page shows no settings.",)
    said = {key: plan.get(key) or {} for key in PARTS}
    odd = {key: value for key, value in said.items() if not isinstance(value, Mapping)}
    common, varied, environment = ({} if key in odd else value for key, value in said.items())
    values = {field: _values(some) for field, some in varied.items()}
    return Settings(_by_symbol(common), _by_symbol(values), _listed(_plain(environment))), _notes(odd)


def _notes(odd: Mapping[str, object]) -> tuple[str, ...]:
    if not odd:
        return ()
    holds = ", ".join(f"{key} holds {_kind(value)}" for key, value in odd.items())
    left = "them" if len(odd) > 1 else "it"
    return (f"{PLAN}: {holds}, not fields with their values; the page leaves {left} out.",)


def _by_symbol(fields: Mapping[str, Any]) -> tuple[Setting, ...]:
    named = tuple(Setting(field, _words(fields[field]), sign) for field, sign in SYMBOLS.items() if field in fields)
    return named + _listed({field: value for field, value in fields.items() if field not in SYMBOLS})


def _listed(fields: Mapping[str, Any]) -> tuple[Setting, ...]:
    return tuple(Setting(field, _words(value)) for field, value in fields.items())


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without the prefixes under which a tracker files them."""
    return {field.removeprefix("mlflow.source.").removeprefix("version."): value for field, value in fields.items()}


def _values(some: Any) -> str:
    """A field's values: numbers ascending, others in the order of the grid."""
    if not isinstance(some, list):
        return _words(some)
    some = sorted(some) if all(isinstance(value, int | float) for value in some) else some
    rest = f", ... ({len(some)} in all)" if len(some) > MOST else ""
    return ", ".join(map(_words, some[:MOST])) + rest


def _words(value: Any) -> str:
    """As a grid file would write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(part)}" for key, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
