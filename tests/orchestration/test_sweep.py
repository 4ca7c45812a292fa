"""A sweep made ready: what its segments' names depend on."""

from dataclasses import replace
from pathlib import Path

import pytest

import core.trainer
from core.measurements import Measurements
from orchestration.sweep import context, prepare
from sweeps.spec import parse
from sweeps.stages import chain
from tests.orchestration.grids import TINY, tiny


def names(tmp_path: Path, *overrides: str, text: str = TINY) -> set[str]:
    return {segment.stage for chain in tiny(tmp_path, text, *overrides).chains.values() for segment in chain}


@pytest.mark.parametrize(
    "override",
    [
        "resources.cpus=2",
        "data.split_seed=1",
        "data.subset=100",
        "data.seed=4",
        "support_samples=8",
        "evaluate_every=2",
    ],
)
def test_other_threads_data_and_measurements_are_other_segments(tmp_path: Path, override: str) -> None:
    assert not names(tmp_path) & names(tmp_path, override)


def test_the_bytes_of_the_data_count_and_not_their_configuration_alone(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = sweep.cells.cells[0].config
    bundle = sweep.bundle(cell)
    before = chain(cell, context(bundle, "cpu", 1, Measurements(2048)))
    after = chain(cell, context(replace(bundle, digest="other bytes"), "cpu", 1, Measurements(2048)))
    assert {segment.stage for segment in before} == {s.stage for s in sweep.chains[sweep.cells.cells[0].cell_id]}
    assert not {segment.stage for segment in before} & {segment.stage for segment in after}


def test_another_version_of_torch_or_of_the_trainer_is_another_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    before = names(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        assert not before & names(tmp_path)
    monkeypatch.setattr(core.trainer, "SEMANTICS_VERSION", 99)
    assert not before & names(tmp_path)


def test_a_device_and_its_precision_count(tmp_path: Path) -> None:
    assert not names(tmp_path) & names(tmp_path, "resources.gpus=1")


def test_places_and_names_do_not_count(tmp_path: Path) -> None:
    other = prepare(parse(TINY, overrides=["name=other", "checkpoint_seconds=9"]), tmp_path / "elsewhere")
    assert names(tmp_path) == {segment.stage for chain in other.chains.values() for segment in chain}
