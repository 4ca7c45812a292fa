"""What a worker is told when it is handed a cell; trials on Ray itself are in test_on_ray."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from core.config import CellConfig
from orchestration.job import Job
from orchestration.launch import load_ray
from sweeps.stages import Segment


def test_a_cell_that_is_tried_again_on_a_whole_device_may_use_all_of_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patch.dict(os.environ):  # Ray reads its environment once, when it is imported: so for all tests here
        load_ray(joining=False)
    from orchestration.trainable import CellTrainable, Work

    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    job = Job("a", CellConfig(), (Segment("stage", 1, 2),), "cuda", 30.0, 0, None)
    threads = {"a": torch.get_num_threads()}
    actor = CellTrainable.__new__(CellTrainable)
    actor._work = Work({"a": job}, {"a": "data"}, {}, str(tmp_path), 60.0, threads, {"a": 0.25})
    for whole in (False, True):
        assert actor.reset_config({"cell_id": "a", "whole": whole})
    assert shares == [0.25, 1.0]
