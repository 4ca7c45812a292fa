"""Our MLflow client: one experiment per sweep, a parent run, a child run per cell found again by its ``cell_id`` tag.

Everything written here is read from the store, with the times recorded there, so that writing it twice changes nothing.
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from analysis.events import FILE as EVENTS
from analysis.events import tag
from core.config import as_dict, flatten
from orchestration.past import rows_so_far
from orchestration.provenance import patch, provenance
from orchestration.sweep import Sweep
from orchestration.tables import running_costs
from sweeps.cells import Cell, labels

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

T = TypeVar("T")
Status = Literal["RUNNING", "FINISHED", "FAILED"]

EPOCHS_PER_CALL = 40
"""A call takes 1 000 metrics and is written whole or not at all: what an epoch has of one metric, it has of all."""
RUNS_PER_PAGE = 1000
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
METRICS = {
    "accuracy/test": "accuracy_test",
    "accuracy/val": "accuracy_val",
    "accuracy/worst_class": "accuracy_worst_class",
    "loss/train": "loss_train",
    "loss/val": "loss_val",
    "loss/test": "loss_test",
    "loss/preservation": "loss_preservation",
    "lr": "lr",
    "density/all": "density",
    "coreset/size": "coreset_size",
    "coreset/noise_ratio": "noise_ratio",
    "loss/noisy_clean": "noisy_clean_loss",
    "collapse/lost_support": "lost_support",
    "collapse/shock": "shock",
    "collapse/class_imbalance": "class_imbalance",
    "time/train": "seconds",
    "time/select": "seconds_select",
    "time/prune": "seconds_prune",
}
"""MLflow metric per epoch to the history row's field."""
ALWAYS = "coreset/size"
"""A metric that every epoch has."""
COLLAPSE = "collapse"
"""The tag of a run whose history holds an event: the kind of the gravest, and its status."""
OF_EVENT = ("drop", "excess", "recovery")
"""``collapse/<name>``: what the gravest event comes to at its horizon, or so far."""
LEDGERS = ("dense", "sparse", "selection", "relative", "paper")
"""``flops/<name>``: the cell's cost so far, cumulated over its epochs."""
FILES = ("report.html", "sweep.yaml", "*.json", "*.parquet", "*.csv", "figures", "tables", "confirmations")
"""What the parent run carries of the output folder."""


class TrackingError(RuntimeError):
    """MLflow cannot hold the sweep: one sentence that says what to do."""


class Sink:
    """A connection to one tracking server for one sweep. Every method may raise what MLflow raises."""

    def __init__(self, sweep: Sweep, uri: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.sweep = sweep
        """What it was opened for."""
        if uri.startswith("sqlite"):
            _hasten_sqlite()
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._experiment = self._open_experiment(local=uri.startswith("sqlite"))
        source = {"mlflow.source.name": "swast run", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
        self._tags = {"sweep": sweep.spec.name, **source, **provenance(sweep.devices)}
        known = list(self._runs())
        keys = {cell_id: segments[-1].stage for cell_id, segments in sweep.chains.items()}
        self._labels = labels(sweep.cells.cells)
        self._runs_by_cell: dict[str, str] = {}
        self._status: dict[str, str] = {}
        self._bare = {str(run.info.run_id) for run in known if not run.data.params}
        for run in known:
            cell_id = run.data.tags.get("cell_id", "")
            if run.data.tags.get("stage_key") == keys.get(cell_id, ""):
                self._runs_by_cell[cell_id] = str(run.info.run_id)
                self._status[cell_id] = str(run.info.status)
        parents = [str(run.info.run_id) for run in known if run.data.tags.get("role") == "sweep"]
        self._parent = parents[0] if parents else self._new_run(sweep.spec.name, {"role": "sweep"}, None)
        self._logged: dict[str, int] = {}
        self._collapse = {str(run.info.run_id): tag for run in known if (tag := run.data.tags.get(COLLAPSE))}
        self._reasons = {str(run.info.run_id) for run in known if "reason" in run.data.tags}

    def finished(self) -> frozenset[str]:
        """Cells whose runs are complete already."""
        return frozenset(cell_id for cell_id, status in self._status.items() if status == "FINISHED")

    def write(self, cell: Cell, status: Status) -> None:
        """Bring the cell's run up to the store: parameters once, then every row that was not written yet."""
        rows, failure = self.sweep.rows(cell.cell_id), self.sweep.failure(cell.cell_id)
        run_id, params = self._child(cell, rows)
        epochs = self._metrics(cell, rows, after=self._written(cell, run_id))
        for place, some in enumerate(list(_chunks(epochs, EPOCHS_PER_CALL)) or [[]]):
            self._client.log_batch(run_id, metrics=list(chain.from_iterable(some)), params=() if place else params)
        self._bare.discard(run_id)
        self._logged[cell.cell_id] = max(self._logged[cell.cell_id], int(rows[-1]["epoch"]) if rows else 0)
        reason = "unknown" if failure is None else failure.reason
        self._explain(run_id, reason if status == "FAILED" else None)
        if status != "RUNNING":
            self._client.set_terminated(run_id, status, end_time=_milliseconds(rows)[-1] if rows else None)
        elif self._status[cell.cell_id] != status:
            self._client.update_run(run_id, status=status)
        self._status[cell.cell_id] = status

    def close(self, headline: Mapping[str, float], when: float) -> None:
        """Write the sweep's headline, figures, tables and report to the parent run, and to each run its collapse.

        ``when``: Unix time of the end.
        """
        from mlflow.entities import Metric

        metrics = [Metric(name, value, round(1000 * when), 0) for name, value in headline.items()]
        self._client.log_batch(self._parent, metrics=metrics)
        for path in sorted(chain.from_iterable(self.sweep.folder.glob(name) for name in FILES)):
            if path.is_dir():
                self._client.log_artifacts(self._parent, str(path), path.name)
            else:
                self._client.log_artifact(self._parent, str(path))
        self._tell_collapses()
        self._log_patch()
        self._client.set_terminated(self._parent, "FINISHED")

    def tell(self, cell_id: str, event: Mapping[str, Any] | None) -> None:
        """Tag a run with its gravest event, and log what that comes to; a run without one has no such tag."""
        run_id = self._runs_by_cell.get(cell_id, "")
        known, told = self._collapse.get(run_id), None if event is None else tag(event["kind"], event["status"])
        if run_id and told is not None and told != known:
            self._client.set_tag(run_id, COLLAPSE, told)
            self._collapse[run_id] = told
        elif told is None and known is not None:
            self._client.delete_tag(run_id, COLLAPSE)
            del self._collapse[run_id]
        if run_id and event is not None:
            self._measure(run_id, cell_id, event)

    def _measure(self, run_id: str, cell_id: str, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        moments = _milliseconds(rows_so_far(self.sweep.chains[cell_id], self.sweep.store))
        at = min(event.get("horizon", 0), len(moments))
        values = {f"collapse/{name}": event.get(name) for name in OF_EVENT}
        known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        if at and known:
            metrics = [Metric(name, value, moments[at - 1], at) for name, value in known.items()]
            self._client.log_batch(run_id, metrics=metrics)

    def _tell_collapses(self) -> None:
        """What the analysis found at the end is what counts; a cell that was stopped is no part of it."""
        told = collapses(self.sweep.folder)
        cells = {cell.cell_id: cell for cell in self.sweep.cells.cells}
        for cell_id, run_id in self._runs_by_cell.items():
            if cell_id in told or (run_id in self._collapse and not self.sweep.stopped_by(cells[cell_id])):
                self.tell(cell_id, told.get(cell_id))

    def _explain(self, run_id: str, reason: str | None) -> None:
        """Say why a run failed; a run that is tried again or succeeds has no reason any more."""
        if reason is not None:
            self._client.set_tag(run_id, "reason", reason)
            self._reasons.add(run_id)
        elif run_id in self._reasons:
            self._client.delete_tag(run_id, "reason")
            self._reasons.remove(run_id)

    def _open_experiment(self, *, local: bool) -> str:
        name = self.sweep.spec.name
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise TrackingError(f"experiment {name} is deleted there; restore it ({restore}) or rename the sweep")
        if found is not None:
            return str(found.experiment_id)
        beside = (self.sweep.folder / "artifacts").resolve().as_uri() if local else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=beside, tags=tags))

    def _runs(self) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=RUNS_PER_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _new_run(self, name: str, tags: Mapping[str, str], start: int | None) -> str:
        run = self._client.create_run(self._experiment, start_time=start, run_name=name, tags={**self._tags, **tags})
        return str(run.info.run_id)

    def _child(self, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[Param]]:
        """The cell's run, and the parameters that it still lacks."""
        known = self._runs_by_cell.get(cell.cell_id)
        if known is not None and known not in self._bare:
            return known, ()
        run_id = known or self._new_child(cell, rows)
        self._log_data(run_id, cell)
        return run_id, _params(cell)

    def _new_child(self, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> str:
        start = _milliseconds(rows)[0] - round(1000 * rows[0]["seconds"]) if rows else None
        key = self.sweep.chains[cell.cell_id][-1].stage  # other data, versions or threads: another run
        tags = {"cell_id": cell.cell_id, "stage_key": key, "mlflow.parentRunId": self._parent}
        tags |= {"branched_from": cell.branched_from} if cell.branched_from else {}
        run_id = self._new_run(self._labels[cell.cell_id], tags, start)
        self._runs_by_cell[cell.cell_id], self._status[cell.cell_id] = run_id, "RUNNING"
        self._logged[cell.cell_id] = 0
        return run_id

    def _written(self, cell: Cell, run_id: str) -> int:
        """The last epoch that the run has. An epoch trained again after a loss has other times and would be doubled."""
        if cell.cell_id not in self._logged:
            points = self._client.get_metric_history(run_id, ALWAYS)
            self._logged[cell.cell_id] = max((point.step for point in points), default=0)
        return self._logged[cell.cell_id]

    def _log_data(self, run_id: str, cell: Cell) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, digest = cell.config.data.name, self.sweep.bundle(cell.config).digest
        data = Dataset(name=source, digest=digest[:36], source_type="code", source=source)
        self._client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def _metrics(self, cell: Cell, rows: Sequence[Mapping[str, Any]], after: int) -> Iterator[list[Metric]]:
        """The metrics of each epoch later than ``after``."""
        from mlflow.entities import Metric

        for row, spent, moment in zip(rows, running_costs(cell.config, rows), _milliseconds(rows), strict=True):
            if row["epoch"] <= after:
                continue
            values = {metric: row.get(field) for metric, field in METRICS.items()}
            values["coreset/turnover"] = row["samples_added"] / row["coreset_size"] if row["switch"] else None
            values |= {f"flops/{name}": spent[f"flops_{name}"] for name in LEDGERS}
            known = {name: float(value) for name, value in values.items() if value is not None}
            yield [Metric(name, value, moment, int(row["epoch"])) for name, value in known.items()]

    def _log_patch(self) -> None:
        difference = patch()
        if difference:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "uncommitted.patch"
                path.write_text(difference)
                self._client.log_artifact(self._parent, str(path))


def collapses(folder: Path) -> dict[str, Mapping[str, Any]]:
    """By cell_id the gravest of its events in the folder."""
    path = folder / EVENTS
    found: dict[str, Mapping[str, Any]] = {}
    for event in json.loads(path.read_bytes()) if path.is_file() else ():  # the gravest first
        found.setdefault(event["cell_id"], event)
    return found


def _params(cell: Cell) -> list[Param]:
    """Every field of the cell, flat; far fewer than the 100 that one call takes."""
    from mlflow.entities import Param

    return [Param(key, str(value)) for key, value in flatten(as_dict(cell.config, defaults=True)).items()]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _hasten_sqlite() -> None:
    """No wait for the disk after each of ten commits per run: what is in MLflow can be written again at any time."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _do_not_sync):
        event.listen(Engine, "connect", _do_not_sync)


def _user() -> str:
    """Who this is; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _do_not_sync(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _milliseconds(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """When each epoch ended. MLflow orders by time: where a clock was set back, or a node's lags, it stands still."""
    return list(accumulate((round(1000 * float(row["time"])) for row in rows), max))
