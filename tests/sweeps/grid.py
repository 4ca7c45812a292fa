"""A small grid to vary in tests, and strategies for cells."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError

from core.config import CellConfig
from core.coresets import SELECTORS
from core.preservation import PRESERVERS
from core.pruning import PRUNERS

GRIDS = Path(__file__).parents[2] / "sweeps" / "grids"

GRID = """\
cell:
  epochs: 12
  select_every: 3
  warmup_epochs: 2
  pruner: {name: rigl, update_every: {per_interval: 5}}
  selector: el2n
axes:
  prune_rate: [0, 0.5]
  coreset_ratio: [1, 0.1]
  seed: [0, 1]
"""

rigl, gmp, el2n = PRUNERS["rigl"], PRUNERS["gmp"], SELECTORS["el2n"]


def _fitting(**fields: Any) -> CellConfig | None:
    try:
        return CellConfig(**fields)
    except ValidationError:
        return None


CELLS: st.SearchStrategy[Any] = st.builds(
    _fitting,
    epochs=st.just(12),
    warmup_epochs=st.sampled_from([None, 0, 2, 5]),
    select_every=st.sampled_from([2, 3]),
    schedule=st.sampled_from(["printed", "skip"]),
    prune_rate=st.sampled_from([0.0, 0.5, 0.9]),
    pruner=st.sampled_from(
        [rigl(), rigl(update_every={"per_interval": 5}), gmp(), gmp(start=0.4), gmp(start=0.0), PRUNERS["snip"]()]
    ),
    coreset_ratio=st.sampled_from([1.0, 0.5, 0.1]),
    selector=st.sampled_from([el2n(), el2n(balanced=True), SELECTORS["random"](), SELECTORS["emp"]()]),
    preservation=st.sampled_from([make() for make in PRESERVERS.values()]),
    preservation_weight=st.sampled_from([0.0, 0.1]),
    preservation_from=st.sampled_from([None, 1, 6, 10]),
    seed=st.sampled_from([0, 1]),
).filter(bool)
