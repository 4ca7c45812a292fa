"""The frontier search as an Optuna sampler: the one module of this package that loads Optuna."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.frontier import Candidate, Space, choose

COLLAPSED = "collapsed"
"""The trial's attribute from which the sampler learns: true, false, or null where it cannot be said."""
FIELDS = ("prune_rate", "coreset_ratio", "seed", "variant")


class FrontierSampler(BaseSampler):
    """Asks for the joint cell that is expected to tell most about the frontier (``sweeps.frontier``).

    It keeps no state but the study's: draws are addressed by the trial's number, so that a resumed study goes on alike.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._by_params = {_key(params_of(c)): c for c in space.candidates}
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(sorted({params_of(c)[name] for c in space.candidates})) for name in FIELDS
        }

    def candidate(self, trial: FrozenTrial) -> Candidate | None:
        """The joint cell of a trial; ``None`` for one whose parameters are not all there yet."""
        return self._by_params.get(_key(trial.params))

    def affordable(self, study: Study) -> bool:
        """Whether the budget lasts for another trial."""
        return bool(self._space.affordable({c.cell_id for c, _ in self._trials(study)}))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of a cell's coordinates at once."""
        return self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next cell. Raises ``RuntimeError`` when the budget lasts for none."""
        outcomes, running = {}, set()
        for candidate, other in self._trials(study):
            if other.state == TrialState.RUNNING:
                running.add(candidate.cell_id)
            else:
                outcomes[candidate.cell_id] = other.user_attrs.get(COLLAPSED)
        found = choose(self._space, outcomes, running, np.random.default_rng((self._seed, trial.number)))
        if found is None:
            raise RuntimeError(
                f"the budget of {self._space.budget} cells lasts for no further trial; raise budget_cells"
            )
        return params_of(found)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never: a cell is asked for as a whole. Raises ``ValueError``."""
        raise ValueError(f"{param_name} is no coordinate of a cell; ask for {', '.join(FIELDS)} together")

    def _trials(self, study: Study) -> Iterator[tuple[Candidate, FrozenTrial]]:
        for trial in study.get_trials(deepcopy=False):
            candidate = self.candidate(trial)
            if candidate is not None:
                yield candidate, trial


def params_of(candidate: Candidate) -> dict[str, Any]:
    """A candidate's coordinates, as a trial's parameters."""
    return {name: getattr(candidate, name) for name in FIELDS}


def _key(params: Mapping[str, Any]) -> Sequence[Any]:
    return tuple(params.get(name) for name in FIELDS)
