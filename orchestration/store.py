"""The truth of a sweep: segments of training by their key, each with its history rows and its last checkpoints.

Layout below the root, everything written to a temporary name, synced and renamed:

    segments/<2 hex>/<key>/<epoch>.state   the checkpoint after that epoch (core.state)
    segments/<2 hex>/<key>/<epoch>.json    written last: the rows of the segment so far, and the digests of both
    failures/<cell_id>.json                why a cell failed the last time it ran

A segment is complete when it holds an entry for its last epoch, or one that diverged. A damaged entry is set aside
under another name, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeps.stages import Segment

KEEP = 2
"""Checkpoints kept per segment: the newest, and one to fall back on."""

log = logging.getLogger(__name__)
Row = Mapping[str, Any]


class StoreError(OSError):
    """The store cannot be written or read: one sentence that says where and why."""


@dataclass(frozen=True)
class Entry:
    """A segment after ``epoch``: its history rows from its first epoch on, and the digest of its checkpoint."""

    key: str
    epoch: int
    rows: tuple[Row, ...]
    diverged: bool
    state_digest: str


class Store:
    """Segments and failures in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, rows: Sequence[Row], state: bytes, *, diverged: bool = False) -> Entry:
        """Add the segment's newest checkpoint and drop those that are no longer needed.

        Raises ``StoreError`` when the folder cannot be written; what was there before stays.
        """
        entry = Entry(key, int(rows[-1]["epoch"]), tuple(rows), diverged, hashlib.sha256(state).hexdigest())
        there = self._read(key, entry.epoch)
        if there is not None and there.state_digest == entry.state_digest and self._state(there) is not None:
            return there  # another worker on the same trunk was first; its recorded times stay
        folder = self._folder(key)
        write_atomically(folder / f"{entry.epoch:05d}.state", state)
        write_atomically(folder / f"{entry.epoch:05d}.json", _encode(entry))
        for epoch in self._epochs(key)[:-KEEP]:
            self._drop(key, epoch)
        return entry

    def newest(self, segment: Segment) -> tuple[Entry, bytes] | None:
        """The segment's newest undamaged entry with its checkpoint; both are checked against their digests."""
        for epoch in reversed(self._epochs(segment.key)):
            entry = self._read(segment.key, epoch)
            state = None if entry is None else self._state(entry)
            if entry is not None and state is not None:
                return entry, state
            self._set_aside(segment.key, epoch)
        return None

    def rows(self, segment: Segment) -> Entry | None:
        """Like ``newest``, without reading the checkpoint."""
        entries = (self._read(segment.key, epoch) for epoch in reversed(self._epochs(segment.key)))
        return next((entry for entry in entries if entry is not None), None)

    def fail(self, cell_id: str, reason: str, detail: str) -> None:
        """Record why a cell failed; where the store itself is what fails, only the log says so."""
        record = {"cell_id": cell_id, "reason": reason, "detail": detail, "time": time.time()}
        try:
            write_atomically(self._failure(cell_id), json.dumps(record, indent=1).encode())
        except StoreError as error:
            log.error("cell %s failed (%s), and that could not be recorded: %s", cell_id, reason, error)

    def forget_failure(self, cell_id: str) -> None:
        """The cell is tried again."""
        self._failure(cell_id).unlink(missing_ok=True)

    def failure(self, cell_id: str) -> str | None:
        """Why the cell failed the last time it ran; ``None`` when it did not."""
        path = self._failure(cell_id)
        return json.loads(path.read_bytes())["reason"] if path.exists() else None

    def _failure(self, cell_id: str) -> Path:
        return self.root / "failures" / f"{cell_id}.json"

    def _folder(self, key: str) -> Path:
        return self.root / "segments" / key[:2] / key

    def _path(self, key: str, epoch: int, kind: str) -> Path:
        return self._folder(key) / f"{epoch:05d}.{kind}"

    def _epochs(self, key: str) -> list[int]:
        folder = self._folder(key)
        return sorted(int(path.stem) for path in folder.glob("*.json")) if folder.is_dir() else []

    def _read(self, key: str, epoch: int) -> Entry | None:
        try:
            return _decode(self._path(key, epoch, "json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def _state(self, entry: Entry) -> bytes | None:
        try:
            state = self._path(entry.key, entry.epoch, "state").read_bytes()
        except FileNotFoundError:
            return None
        return state if hashlib.sha256(state).hexdigest() == entry.state_digest else None

    def _set_aside(self, key: str, epoch: int) -> None:
        for kind in ("json", "state"):
            path = self._path(key, epoch, kind)
            aside = path.with_name(f"{path.name}.damaged")
            with contextlib.suppress(FileNotFoundError):  # another worker on the same trunk has dropped it meanwhile
                os.replace(path, aside)
                log.warning("damaged checkpoint set aside as %s; the one before it is used", aside)

    def _drop(self, key: str, epoch: int) -> None:
        for kind in ("json", "state"):
            self._path(key, epoch, kind).unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside ``path``, sync, rename. Raises ``StoreError``; nothing half-written is left."""
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def temporary_name(path: Path) -> Path:
    """A name beside ``path`` that no other process on any node sharing the folder uses."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")


def _encode(entry: Entry) -> bytes:
    body = json.dumps({**vars(entry), "rows": list(entry.rows)}, sort_keys=True, allow_nan=False)
    return json.dumps({"digest": hashlib.sha256(body.encode()).hexdigest(), "entry": body}).encode()


def _decode(content: bytes) -> Entry:
    """Raises ``ValueError`` when the content is not what ``_encode`` wrote."""
    outer = json.loads(content)
    if hashlib.sha256(outer["entry"].encode()).hexdigest() != outer["digest"]:
        raise ValueError("the entry's digest does not match")
    entry = Entry(**json.loads(outer["entry"]))
    return replace(entry, rows=tuple(entry.rows))
