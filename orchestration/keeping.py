"""What a store holds, what of it any plan still names, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.errors import UsageError
from orchestration.files import TEMPORARY
from orchestration.store import Failure, Store
from orchestration.sweep import Sweep, own_store

HOUR = 3600.0


@dataclass(frozen=True)
class Held:
    """One stored state. ``named``: by how many sweeps; 0 for a checkpoint that no plan needs."""

    stage: str
    epoch: int
    bytes: int
    named: int


def remember(sweep: Sweep) -> None:
    """Leave in the store which states this sweep's plan names: ``gc`` keeps them, whoever runs it."""
    states = sorted({f"{s.stage}/{s.last}" for chain in sweep.chains.values() for s in chain})
    sweep.store.files.write(f"plans/{_named_after(sweep)}.json", json.dumps(states).encode())


def _named_after(sweep: Sweep) -> str:
    """The sweep, and in a store that others may use too the folder of its results: names are soon given twice."""
    if sweep.store.files.locator == own_store(sweep.folder):
        return sweep.spec.name
    folder = f"{os.uname().nodename}:{sweep.folder.resolve()}"
    return f"{sweep.spec.name}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def held(store: Store) -> Iterator[Held]:
    """Every stored state, by stage and epoch."""
    names = _named(store)
    for stage in (folder.rpartition("/")[2] for folder in _folders(store)):
        for epoch in store.epochs(stage):
            yield Held(stage, epoch, store.size(stage, epoch), names.get((stage, epoch), 0))


def _folders(store: Store) -> Iterator[str]:
    """Of all stages."""
    for prefix in store.files.names("segments"):
        yield from (f"segments/{prefix}/{stage}" for stage in store.files.names(f"segments/{prefix}"))


def garbage(store: Store) -> tuple[Held, ...]:
    """The states that no plan names: checkpoints on the way, and cells that left their grid.

    Raises ``UsageError`` for a store in which no sweep has left its plan: everything would be garbage.
    """
    if not _plans(store):
        raise UsageError(f"{store.place} holds no plan of a sweep, so nothing can be told from garbage; run one first")
    return tuple(state for state in held(store) if not state.named)


def litter(store: Store) -> tuple[str, ...]:
    """The files of a store that are no part of a state: set aside as damaged, or left half written by who was killed.

    What was written within ``HOUR`` may be half there because somebody is writing it.
    """
    found: list[str] = []
    for folder in (*_folders(store), "plans", "failures"):
        names = store.files.names(folder)
        alone = {f"{name.removesuffix('.state')}.json": name for name in names if name.endswith(".state")}
        half = {state for rows, state in alone.items() if rows not in names}
        half |= {name for name in names if name.endswith(TEMPORARY)}
        found += [f"{folder}/{name}" for name in names if name.endswith(".damaged")]
        found += [f"{folder}/{name}" for name in sorted(half) if store.files.age(f"{folder}/{name}") > HOUR]
    return tuple(found)


def damaged(store: Store) -> tuple[Held, ...]:
    """The states whose checkpoint is missing, or it or the rows do not have their digest; they are set aside."""
    return tuple(state for state in held(store) if not store.whole(state.stage, state.epoch))


def _plans(store: Store) -> list[str]:
    """Their files; one that is being written has another name."""
    return [f"plans/{name}" for name in store.files.names("plans") if name.endswith(".json")]


def _named(store: Store) -> Mapping[tuple[str, int], int]:
    counts: dict[tuple[str, int], int] = {}
    for plan in _plans(store):
        listed: list[Any] = json.loads(store.files.read(plan))
        places = (str(text).partition("/") for text in listed)
        for state in {state for stage, _, epoch in places for state in _with_trunk(store, stage, int(epoch))}:
            counts[state] = counts.get(state, 0) + 1
    left = {state: 1 for failure in store.failures() for state in _left_by(store, failure)}
    return left | counts


def _left_by(store: Store, failure: Failure) -> Iterator[tuple[str, int]]:
    """Where a cell left off that failed or was stopped: its rows are there, and from there it goes on."""
    newest = None if failure.epoch is None else next(store.entries(failure.stage, last=failure.epoch), None)
    if newest is not None:
        yield from _with_trunk(store, newest.stage, newest.epoch)


def _with_trunk(store: Store, stage: str, epoch: int) -> Iterator[tuple[str, int]]:
    """A state, and those of its stage that hold the rows before its own; the last one before it, where it is not there.

    A run that diverges on the way has none at its end.
    """
    entry = store.entry(stage, epoch) or next((one for one in store.entries(stage, 1, epoch) if one.diverged), None)
    yield stage, epoch if entry is None else entry.epoch
    while entry is not None and entry.first > 1:
        before = entry.first - 1
        entry = store.entry(stage, before)
        yield stage, before
