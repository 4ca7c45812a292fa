"""The background thread between a sweep and its MLflow sink: never in the way of training, never the reason it fails.

When the server is away the cells wait here and are read from the store once it answers: the store is the spool.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from analysis.events import Event
from orchestration.errors import UsageError
from orchestration.observer import Report
from orchestration.reachable import refusal
from orchestration.redaction import without_secrets
from orchestration.sink import Sink, Status
from orchestration.sweep import Sweep

RETRY_SECONDS = 2.0
PORTS = {"http": 80, "https": 443}
FOLDERS = ("", "file")
SCHEMES = (*PORTS, *FOLDERS, "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")
"""What MLflow knows without a plug-in of its own; a database's may name its driver (``mysql+pymysql``)."""
ABANDON_SECONDS = 10.0
"""What a call to MLflow that is under way may still take when the sweep could not begin."""

log = logging.getLogger(__name__)


def check_server(uri: str) -> None:
    """Raises ``UsageError`` for what is no address, and where nobody listens at an http(s) one.

    One behind a proxy is left to MLflow.
    """
    told = without_secrets(uri)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise UsageError(f"--tracking-uri {told} is no address ({error})") from error
    if parts.scheme.partition("+")[0] not in (*SCHEMES, *entry_points(group="mlflow.tracking_store").names):
        ways = "http://HOST:PORT, a database such as sqlite:////FOLDER/mlflow.db, or none"
        raise UsageError(f"--tracking-uri {told} is no address that MLflow knows; write {ways}")
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    if parts.scheme in FOLDERS and uri not in SCHEMES and not allowed:
        way = f"write sqlite:///{parts.path or uri}/mlflow.db, or set MLFLOW_ALLOW_FILE_STORE=true"
        raise UsageError(f"--tracking-uri {told} is a folder, which MLflow does not write to any more; {way}")
    if parts.scheme not in PORTS or _proxied(parts.scheme, host):
        return
    reason = refusal(host, port)
    if reason:
        way = "start it, or give another --tracking-uri ('none' for none)"
        raise UsageError(f"no MLflow server answers at {told} ({reason}); {way}")


def _proxied(scheme: str, host: str) -> bool:
    return bool({scheme, "all"} & set(getproxies())) and not proxy_bypass(host)


class Tracker:
    """An observer that keeps MLflow up to the store."""

    def __init__(self, sweep: Sweep, uri: str) -> None:
        self._sweep = sweep
        self._uri = uri
        self._cells = {cell.cell_id: cell for cell in sweep.cells.cells}
        self._waiting: dict[str, Status] = {}
        self._shown: dict[str, int] = {}
        self._collapses: dict[str, Mapping[str, Any] | None] = {}
        self._changed = threading.Condition()
        self._headline: Mapping[str, float] | None = None
        self._deadline = float("inf")
        self._sink: Sink | None = None
        self._ended = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mlflow-sink", daemon=True)
        self.error: str | None = None
        """What MLflow last said when it could not be written; ``None`` once it can."""

    def start(self) -> None:
        """Begin; cells that finished or were stopped in an earlier session are written too, where MLflow lacks them."""
        self.follow(self._sweep)
        self._thread.start()

    def follow(self, sweep: Sweep) -> None:
        """Go on with the sweep when it has more cells."""
        over: dict[str, Status] = {}
        now = sweep.snapshot()
        for cell in sweep.cells.cells:
            if now.finished(cell):
                over[cell.cell_id] = "FINISHED"
            elif now.stopped(cell):
                over[cell.cell_id] = "FAILED"
        with self._changed:
            self._sweep = sweep
            self._cells = {cell.cell_id: cell for cell in sweep.cells.cells}
            self._waiting |= over
            self._changed.notify()

    def started(self, cell_id: str) -> None:
        """Nothing is stored yet."""

    def progressed(self, report: Report) -> None:
        """The rows of a new checkpoint can be shown."""
        if report.stored > self._shown.get(report.cell_id, 0):
            self._shown[report.cell_id] = report.stored
            self._ask(report.cell_id, "RUNNING")

    def finished(self, cell_id: str) -> None:
        """All rows can be shown."""
        self._ask(cell_id, "FINISHED")

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The run is marked as failed, with its reason."""
        self._ask(cell_id, "FAILED")

    def retried(self, cell_id: str, reason: str) -> None:
        """The run goes on."""

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """The run gets the tag and the metrics of its gravest event, or loses them."""
        with self._changed:
            self._collapses[cell_id] = vars(events[0]) if events else None
            self._changed.notify()

    def close(self, headline: Mapping[str, float], patience: float = 30.0) -> int:
        """Write what waits, then the parent's figures and headline. Returns how many cells MLflow still lacks.

        ``patience``: seconds to go on trying while the server is away.
        """
        with self._changed:
            self._headline, self._ended = dict(headline), time.time()
            self._deadline = time.monotonic() + patience
            self._changed.notify()
        while self._thread.is_alive() and (self.error is None or time.monotonic() < self._deadline):
            self._thread.join(timeout=0.2)
        return len(self._waiting)

    def abandon(self) -> None:
        """Write nothing more: the sweep could not begin."""
        with self._changed:
            self._headline, self._closed = {}, True
            self._changed.notify()
        self._thread.join(timeout=ABANDON_SECONDS)

    def _ask(self, cell_id: str, status: Status) -> None:
        with self._changed:
            self._waiting[cell_id] = status
            self._changed.notify()

    def _run(self) -> None:
        while self._more():
            try:
                self._write_one()
                self.error = None
            except Exception as error:
                known, self.error = self.error, _reason(error)
                self._postpone()
                self._sink = None  # what it knew may be gone: a run deleted by hand, another server's answer
                if self.error != known:
                    log.warning(
                        "MLflow at %s cannot be written (%s); trying again", without_secrets(self._uri), self.error
                    )
                time.sleep(RETRY_SECONDS)

    def _more(self) -> bool:
        """Wait for something to write. False when the sweep is over and all is written, or patience has run out."""
        with self._changed:
            while not (self._waiting or self._collapses) and self._headline is None:
                self._changed.wait()
            gave_up = self.error is not None and time.monotonic() >= self._deadline
            return not gave_up and not self._closed

    def _write_one(self) -> None:
        """Connect, or write one cell, or one cell's collapse, or at last the sweep's headline."""
        with self._changed:
            cell_id, status = next(iter(self._waiting.items()), ("", None))
            fallen, event = next(iter(self._collapses.items()), ("", None))
            sweep = self._sweep
        if self._sink is None or self._sink.sweep is not sweep:
            self._sink = self._connect(sweep)
        elif status is not None:
            self._sink.write(self._cells[cell_id], status)
            self._wrote(cell_id, status)
        elif fallen:
            self._sink.tell(fallen, event)
            self._told(fallen, event)
        else:
            self._sink.close(self._headline or {}, self._ended)
            self._closed = True

    def _wrote(self, cell_id: str, status: Status) -> None:
        with self._changed:
            if self._waiting.get(cell_id) == status:
                del self._waiting[cell_id]

    def _told(self, cell_id: str, event: Mapping[str, Any] | None) -> None:
        with self._changed:
            if self._collapses.get(cell_id) is event:
                del self._collapses[cell_id]

    def _postpone(self) -> None:
        """Put the first cell last: one that MLflow refuses must not hold up the others."""
        with self._changed:
            if self._waiting:
                cell_id = next(iter(self._waiting))
                self._waiting[cell_id] = self._waiting.pop(cell_id)

    def _connect(self, sweep: Sweep) -> Sink:
        sink = Sink(sweep, self._uri)
        with self._changed:
            for cell_id in sink.finished():
                if self._waiting.get(cell_id) == "FINISHED":
                    del self._waiting[cell_id]
        return sink


def _reason(error: Exception) -> str:
    """What the network said, without what MLflow and its libraries wrap it in; any other error as it is."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    said = (inner.strerror or str(inner)) if isinstance(inner, OSError) else str(error)
    return without_secrets(" ".join(said.split()))[:300]
