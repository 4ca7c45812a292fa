"""The frontier search of a sweep: an Optuna study in the output folder whose trials are joint cells.

The study says what is wanted, the store what is finished: after a kill, the trials that were running are what is to do
first. ``optuna-dashboard`` opens the file as it is.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from analysis.frontier import collapsed
from analysis.synergy import Terms, bliss
from orchestration.sweep import Sweep
from sweeps.cells import Cell
from sweeps.frontier import Candidate, Space, space
from sweeps.policy import FrontierSearch
from sweeps.sampler import COLLAPSED, FrontierSampler, params_of

JOURNAL = "frontier.journal"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What a trial showed, on validation: its departure from Bliss independence, and whether it collapsed."""

    bliss: float
    collapsed: bool

    def told(self) -> str:
        """In words."""
        fell = "collapsed" if self.collapsed else "whole"
        return f"{fell}, {100 * self.bliss:+.1f} points from Bliss independence on validation"


@dataclass(frozen=True)
class Search:
    """A sweep's study."""

    sweep: Sweep
    space: Space
    sampler: FrontierSampler
    study: Study

    def ask(self, slots: int) -> tuple[Cell, ...]:
        """Go on to ``slots`` running trials, as the budget lasts; the cells that they need and that are not finished.

        Trials of which nothing is to do are told what they showed.
        """
        self.settle()
        while len(running := self._running()) < slots and self.sampler.affordable(self.study):
            self.study.ask(self.sampler.distributions)
            self.settle()
        needs = self.space.spent(candidate.cell_id for candidate, _ in running)
        cells = self.sweep.cells.cells
        return tuple(cell for cell in cells if cell.cell_id in needs and not self.sweep.finished(cell))

    def settle(self) -> tuple[tuple[Candidate, Verdict | None], ...]:
        """Tell the running trials whose cells are finished, or failed, what they showed."""
        settled = []
        for candidate, trial in self._running():
            left = [cell for cell in self._cells(candidate.needs) if not self.sweep.finished(cell)]
            if left and all(self.sweep.failure(cell.cell_id) is None for cell in left):
                continue  # one that failed is not tried again, and without it there is no verdict
            settled.append((candidate, self._verdict(candidate) if not left else None))
            self._tell(candidate, trial, settled[-1][1])
        return tuple(settled)

    def wanted(self) -> tuple[Cell, ...]:
        """The cells of all trials, the next one's too; those that are finished are told."""
        self.ask(1)
        return tuple(self._cells(self.space.spent(candidate.cell_id for candidate, _ in self._trials())))

    def cell(self, cell_id: str) -> Cell:
        """A cell of the sweep by its id."""
        return self._cells((cell_id,))[0]

    @property
    def running(self) -> bool:
        """Whether a trial waits for its cells."""
        return bool(self._running())

    def trained(self) -> tuple[int, int]:
        """Joint cells of the trials that are told, and cells with their controls."""
        taken = [candidate.cell_id for candidate, trial in self._trials() if trial.state != TrialState.RUNNING]
        return len(taken), len(self.space.spent(taken))

    def known(self) -> None:
        """Add a trial for every joint cell that is finished in the store with its controls, but not in the study."""
        taken = {candidate.cell_id for candidate, _ in self._trials()}
        finished = {cell.cell_id for cell in self.sweep.cells.cells if self.sweep.finished(cell)}
        for candidate in self.space.candidates:
            if candidate.cell_id in taken or not candidate.needs <= finished:
                continue
            verdict = self._verdict(candidate)
            if verdict is not None:
                trial = create_trial(
                    params=params_of(candidate),
                    distributions=self.sampler.distributions,
                    value=verdict.bliss,
                    user_attrs=_told(candidate, verdict),
                )
                self.study.add_trial(trial)

    def _tell(self, candidate: Candidate, trial: FrozenTrial, verdict: Verdict | None) -> None:
        if verdict is None:
            self.study.tell(trial.number, state=TrialState.FAIL)
            return
        open_trial = Trial(self.study, trial._trial_id)
        for name, value in _told(candidate, verdict).items():
            open_trial.set_user_attr(name, value)
        self.study.tell(trial.number, verdict.bliss)

    def _running(self) -> list[tuple[Candidate, FrozenTrial]]:
        return [(candidate, trial) for candidate, trial in self._trials() if trial.state == TrialState.RUNNING]

    def _trials(self) -> list[tuple[Candidate, FrozenTrial]]:
        trials = ((self.sampler.candidate(trial), trial) for trial in self.study.get_trials(deepcopy=False))
        return [(candidate, trial) for candidate, trial in trials if candidate is not None]

    def _cells(self, ids: Iterable[str]) -> list[Cell]:
        wanted = set(ids)
        return [cell for cell in self.sweep.cells.cells if cell.cell_id in wanted]

    def _verdict(self, candidate: Candidate) -> Verdict | None:
        """What a joint cell shows beside its controls, all finished; ``None`` where dense training is at chance."""
        cell = self.cell(candidate.cell_id)
        dense, pruning, coreset = map(self.cell, cell.controls)
        joint, alone, core = map(self._accuracy, (cell, pruning, coreset))
        every_dense = [
            self._accuracy(other)
            for other in self.sweep.cells.cells
            if replace(other.config, seed=dense.config.seed) == dense.config and self.sweep.finished(other)
        ]
        one = np.ones((1, 1))
        terms = Terms(
            joint=joint * one,
            pruning=alone * one,
            coreset=core * one,
            dense=self._accuracy(dense) * one,
            best_single=max(alone, core) * one,
            chance=self.sweep.bundle(cell.config).chance * one,
            dense_mean=float(np.mean(every_dense)) * one,
        )
        found = float(collapsed(terms)[0, 0])
        return None if np.isnan(found) else Verdict(float(bliss(terms)[0, 0]), bool(found))

    def _accuracy(self, cell: Cell) -> float:
        """On validation, after the last epoch; chance when the cell diverged."""
        rows, diverged = self.sweep.history(cell) or ([], True)
        return float(self.sweep.bundle(cell.config).chance if diverged else rows[-1]["accuracy_val"])


def search_of(sweep: Sweep, rule: FrontierSearch) -> Search:
    """The sweep's study: the one that is there, or a new one; it knows what the store holds.

    A grid of other joint cells has a study of its own in the same file. A file that cannot be read is set aside.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = space(sweep.cells, rule)
    sampler = FrontierSampler(found, rule.seed)
    digest = hashlib.sha256("".join(sorted(found.by_id)).encode()).hexdigest()[:8]
    path = sweep.folder / JOURNAL
    try:
        study = _study(str(path), sampler, f"{sweep.spec.name}-{digest}")
    except (ValueError, KeyError, TypeError) as error:
        aside = path.with_name(f"{JOURNAL}.damaged")
        os.replace(path, aside)
        log.warning(
            "%s cannot be read (%s): set aside as %s; the store knows what is finished", path, error, aside.name
        )
        study = _study(str(path), sampler, f"{sweep.spec.name}-{digest}")
    search = Search(sweep, found, sampler, study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if sampler.candidate(trial) is None:  # killed while it was asked for
            study.tell(trial.number, state=TrialState.FAIL)
    for cell in sweep.to_do():
        sweep.store.forget_failure(sweep.end(cell.cell_id))
    search.known()
    return search


def _study(path: str, sampler: FrontierSampler, name: str) -> Study:
    storage = JournalStorage(JournalFileBackend(path))
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name=name, direction="minimize", load_if_exists=True
    )


def _told(candidate: Candidate, verdict: Verdict) -> dict[str, Any]:
    return {"cell_id": candidate.cell_id, COLLAPSED: verdict.collapsed}
