"""What MLflow must hold of a finished sweep, however often it was away."""

from __future__ import annotations

from mlflow import MlflowClient

from orchestration.sink import METRICS
from orchestration.sweep import Sweep


def assert_every_point_once(client: MlflowClient, sweep: Sweep) -> None:
    """A finished run per cell with its parameters and data set, and every point of its history once, in order."""
    experiment = client.get_experiment_by_name(sweep.spec.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    children = {run.data.tags["cell_id"]: run for run in runs if "cell_id" in run.data.tags}
    assert len(runs) == len(children) + 1 == len(sweep.cells.cells) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    for cell in sweep.cells.cells:
        run, (rows, _) = children[cell.cell_id], sweep.history(cell) or ([], False)
        assert run.data.params["seed"] == str(cell.config.seed)
        assert [used.dataset.name for used in run.inputs.dataset_inputs] == [cell.config.data.name]
        assert run.info.start_time <= run.info.end_time
        for metric, field in METRICS.items():
            points = [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, metric)]
            assert points == [(row["epoch"], row[field]) for row in rows if row.get(field) is not None]
