"""The truth of a sweep: what has been trained, by stage and epoch, each with its history rows and its checkpoint.

Layout, in a folder or an object store:

    segments/<2 hex>/<stage>/<epoch>.state   the checkpoint after that epoch (core.state)
    segments/<2 hex>/<stage>/<epoch>.json    written last: the rows that lead to it, and the digests of both
    failures/<stage>.json                    why the cell whose chain ends there failed the last time, or was stopped
    plans/<sweep>.json                       the states that a sweep's plan names (of a shared store: with its folder)

A damaged entry is set aside under another name, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from orchestration.files import StoreError, open_files
from orchestration.redaction import without_secrets

EARLY_STOPPING, ON_COLLAPSE = "early_stopping", "on_collapse"
"""The rules of a grid file that stop a cell."""
KEEP = 2
"""Checkpoints kept on the way through a segment: the newest, and one to fall back on."""

log = logging.getLogger(__name__)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A stage after ``epoch``: the history rows of epochs ``first`` to ``epoch``, and the digest of its checkpoint."""

    stage: str
    first: int
    epoch: int
    rows: tuple[Row, ...]
    diverged: bool
    state_digest: str
    kept: bool = False
    """Whether a segment of some sweep ends here; a sweep that only passes by does not drop it."""


@dataclass(frozen=True)
class Failure:
    """Why a cell failed the last time it ran, or which ``rule`` of the grid stopped it.

    ``epoch``: the last one that it has trained, whose entry is in ``stage``; ``None`` where nobody knows.
    """

    cell_id: str
    reason: str
    detail: str = ""
    """The traceback, if there is one."""
    rule: str = ""
    epoch: int | None = None
    stage: str = ""


class Store:
    """Entries and failures below one place: a folder or an fsspec URL."""

    def __init__(self, place: str | Path) -> None:
        self.files = open_files(place)
        self._unwritten: dict[str, Failure] = {}

    def snapshot(self) -> Store:
        """The same store, asked of thousands of entries at once (``Files.snapshot``)."""
        known = copy(self)
        known.files = self.files.snapshot()
        return known

    @property
    def place(self) -> str:
        """The folder or URL."""
        return self.files.place

    def put(
        self, stage: str, rows: Sequence[Row], state: bytes, *, diverged: bool = False, kept: bool = False
    ) -> Entry:
        """Add the checkpoint after the last of ``rows``; ``kept``: a segment ends there.

        Returns what is there then: another worker's entry where that was first, be its bits others or not (on a GPU
        they are): what goes on from here goes on from it. Raises ``StoreError`` when the place cannot be written; what
        was there before stays.
        """
        first, epoch = int(rows[0]["epoch"]), int(rows[-1]["epoch"])
        entry = Entry(stage, first, epoch, tuple(rows), diverged, digest(state), kept)
        there = self.entry(stage, epoch)
        if not _holds(there, entry) or self.state(there) is None:
            self.files.write(_name(stage, epoch, "state"), state)
            there = self.entry(stage, epoch)  # that took a while: somebody may have been first after all
            if not _holds(there, entry) or there.state_digest != entry.state_digest:
                there = replace(entry, kept=kept or (there is not None and there.kept))
                self.files.write(_name(stage, epoch, "json"), _encode(there))
        return self.keep(there) if kept else there

    def keep(self, entry: Entry) -> Entry:
        """Keep an entry from whoever only passes by: a segment ends there."""
        kept = replace(entry, kept=True)
        if kept != entry:
            self.files.write(_name(entry.stage, entry.epoch, "json"), _encode(kept))
        return kept

    def entry(self, stage: str, epoch: int) -> Entry | None:
        """The entry after an epoch; ``None`` when there is none, or a damaged one (which is set aside)."""
        try:
            return _decode(self.files.read(_name(stage, epoch, "json")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            self._set_aside(stage, epoch)
            return None

    def entries(self, stage: str, first: int = 1, last: int = sys.maxsize) -> Iterator[Entry]:
        """The undamaged entries of a stage after the epochs ``first`` to ``last``, newest first."""
        for epoch in reversed(self.epochs(stage)):
            if first <= epoch <= last:
                entry = self.entry(stage, epoch)
                if entry is not None:
                    yield entry

    def state(self, entry: Entry) -> bytes | None:
        """The checkpoint of an entry; ``None`` when it is missing or damaged (then the entry is set aside)."""
        try:
            state = self.files.read(_name(entry.stage, entry.epoch, "state"))
        except FileNotFoundError:
            return None
        if digest(state) == entry.state_digest:
            return state
        self._set_aside(entry.stage, entry.epoch)
        return None

    def whole(self, stage: str, epoch: int) -> bool:
        """Whether rows and checkpoint have their digests; else the entry is set aside. What is dropped meanwhile is."""
        try:
            entry = _decode(self.files.read(_name(stage, epoch, "json")))
            if digest(self.files.read(_name(stage, epoch, "state"))) == entry.state_digest:
                return True
        except FileNotFoundError:
            if epoch not in self.epochs(stage):
                return True
        except (ValueError, KeyError, TypeError):
            pass
        self._set_aside(stage, epoch)
        return False

    def retain(self, stage: str, epochs: Sequence[int]) -> list[int]:
        """Drop the checkpoints after these epochs but the newest ``KEEP``, which are returned, and those kept."""
        for epoch in epochs[:-KEEP]:
            entry = self.entry(stage, epoch)
            if entry is not None and not entry.kept:
                self.drop(stage, epoch)
        return list(epochs[-KEEP:])

    def drop(self, stage: str, epoch: int) -> None:
        """Remove an entry with its checkpoint."""
        for kind in ("json", "state"):
            self.files.remove(_name(stage, epoch, kind))

    def size(self, stage: str, epoch: int) -> int:
        """Bytes of a checkpoint with its rows."""
        return sum(self.files.size(_name(stage, epoch, kind)) for kind in ("json", "state"))

    def epochs(self, stage: str) -> list[int]:
        """The epochs of a stage that have an entry, ascending."""
        names = self.files.names(_folder(stage))
        return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[0].isdigit())

    def fail(self, end: str, failure: Failure) -> None:
        """Record why the cell whose chain ends in the stage ``end`` failed, or was stopped.

        Where the store itself fails, this object alone knows it.
        """
        failure = replace(failure, reason=without_secrets(failure.reason), detail=without_secrets(failure.detail))
        record = {**vars(failure), "time": time.time()}
        self._unwritten.pop(end, None)
        try:
            self.files.write(_failure(end), json.dumps(record, indent=1).encode())
        except StoreError as error:
            self._unwritten[end] = failure
            told = "cell %s failed (%s), and that could not be recorded: %s"
            log.error(told, failure.cell_id, failure.reason, error)

    def forget_failure(self, end: str) -> None:
        """The cell is tried again. A record that cannot be removed says nothing once the cell is finished."""
        self._unwritten.pop(end, None)
        try:
            self.files.remove(_failure(end))
        except StoreError as error:
            log.warning("%s", error)

    def failure(self, end: str) -> Failure | None:
        """Why the cell failed or was stopped the last time it ran; ``None`` when it did neither."""
        if end in self._unwritten:
            return self._unwritten[end]
        try:
            record = dict(json.loads(self.files.read(_failure(end))))
            record.pop("time")
            return Failure(**record)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return Failure("", "unknown: the record of the failure is damaged")

    def failures(self) -> Iterator[Failure]:
        """All that are recorded."""
        for name in self.files.names("failures"):
            found = self.failure(name.removesuffix(".json"))
            if found is not None:
                yield found

    def _set_aside(self, stage: str, epoch: int) -> None:
        for kind in ("json", "state"):
            name = _name(stage, epoch, kind)
            self.files.rename(name, f"{name}.damaged")
        where = f"{self.place}/{_name(stage, epoch, 'json')}"
        log.warning("damaged checkpoint set aside as %s.damaged; the one before it is used", where)


def _holds(there: Entry | None, entry: Entry) -> TypeGuard[Entry]:
    """Whether an entry has the rows of another one; else it leans on one before it, which may be gone."""
    return there is not None and there.first <= entry.first


def _folder(stage: str) -> str:
    return f"segments/{stage[:2]}/{stage}"


def _name(stage: str, epoch: int, kind: str) -> str:
    return f"{_folder(stage)}/{epoch:05d}.{kind}"


def _failure(end: str) -> str:
    return f"failures/{end}.json"


def digest(content: bytes) -> str:
    """What tells whether bytes are as they were written."""
    return hashlib.sha256(content).hexdigest()


def _encode(entry: Entry) -> bytes:
    body = json.dumps({**vars(entry), "rows": list(entry.rows)}, sort_keys=True, allow_nan=False)
    return json.dumps({"digest": digest(body.encode()), "entry": body}).encode()


def _decode(content: bytes) -> Entry:
    """Raises ``ValueError`` when the content is not what ``_encode`` wrote."""
    outer = json.loads(content)
    if digest(outer["entry"].encode()) != outer["digest"]:
        raise ValueError("the entry's digest does not match")
    entry = Entry(**json.loads(outer["entry"]))
    return replace(entry, rows=tuple(entry.rows))
