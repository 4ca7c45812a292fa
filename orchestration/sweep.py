"""A sweep made ready: its cells, their chains under this machine's context, what is finished and what is to do."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core.config import CellConfig, as_dict, canonical_json
from core.data.bundle import Bundle
from core.measurements import Measurements
from orchestration.files import StoreError
from orchestration.job import Job
from orchestration.packing import hollow, packed
from orchestration.past import finished_rows, rows_so_far
from orchestration.store import ON_COLLAPSE, Failure, Store
from sweeps.cells import Cell, Cells, expand
from sweeps.policy import Need, stops
from sweeps.spec import SweepSpec
from sweeps.stages import Chain, Segment, chain, forest

LOCK = ".lock"
"""The file in an output folder that the process holds which runs the sweep."""


class SweepBusyError(RuntimeError):
    """Another process holds the sweep's output folder."""


@dataclass(frozen=True)
class Sweep:
    """A grid bound to an output folder and to the data and arithmetic it runs on."""

    spec: SweepSpec
    cells: Cells
    folder: Path
    store: Store
    bundles: Mapping[str, Bundle]
    """By the canonical JSON of the source."""
    chains: Mapping[str, Chain]
    """By cell_id."""
    sharing: bool = True
    """Whether cells share the epochs before they part."""
    known: set[str] = field(default_factory=set, compare=False)
    """Cells found finished so far: a finished cell stays so, and is not read again to see it."""

    def bundle(self, cell: CellConfig) -> Bundle:
        """The data set of a cell."""
        return self.bundles[source_key(cell)]

    def packed(self) -> Sweep:
        """The sweep with its data as arrays: for processes that train nothing."""
        return replace(self, bundles={key: packed(bundle) for key, bundle in self.bundles.items()})

    def hollow(self) -> Sweep:
        """The sweep without its samples: for processes that only read what has been trained."""
        return replace(self, bundles={key: hollow(bundle) for key, bundle in self.bundles.items()})

    def snapshot(self) -> Sweep:
        """The same sweep for who asks of all its cells at once: an object store is listed, not asked cell by cell."""
        return replace(self, store=self.store.snapshot())

    @property
    def devices(self) -> str:
        """What the cells train on, such as ``cpu``."""
        return ", ".join(sorted({self.need(cell.config).device for cell in self.cells.cells}))

    @property
    def select_every(self) -> int | None:
        """R in epochs, where all cells with coresets share one."""
        found = {cell.config.select_every for cell in self.cells.cells if cell.config.coreset_ratio < 1}
        return next(iter(found)) if len(found) == 1 else None

    def need(self, cell: CellConfig) -> Need:
        """What a cell needs of a node."""
        return self.spec.resources.need(cell)

    def job(self, cell: Cell) -> Job:
        """A cell and all that its training needs but the data."""
        return Job(
            cell_id=cell.cell_id,
            cell=cell.config,
            chain=self.chains[cell.cell_id],
            device=self.need(cell.config).device,
            checkpoint_seconds=self.spec.checkpoint_seconds,
            measurements=self.spec.measurements,
            rule=stops(self.spec.early_stopping, cell.config),
        )

    def history(self, cell: Cell) -> tuple[list[Mapping[str, Any]], bool] | None:
        """The rows of a finished cell and whether it diverged; ``None`` when it is not finished."""
        return finished_rows(self.chains[cell.cell_id], self.store)

    def to_do(self) -> tuple[Cell, ...]:
        """Wanted minus finished and stopped, in grid order."""
        return tuple(cell for cell in self.cells.cells if not (self.finished(cell) or self.stopped(cell)))

    def finished(self, cell: Cell) -> bool:
        """Whether the store holds the cell's last epoch."""
        if cell.cell_id not in self.known and self.history(cell) is not None:
            self.known.add(cell.cell_id)
        return cell.cell_id in self.known

    def stopped(self, cell: Cell) -> bool:
        """Whether one of the grid's rules, as they stand now, stops the cell at what is stored of it.

        What stopped it may have been found beside controls that have gone on since: ``on_collapse`` is not asked again.
        """
        by = self.stopped_by(cell)
        if by == ON_COLLAPSE:
            return self.spec.on_collapse == "stop"
        rule = stops(self.spec.early_stopping, cell.config)
        if rule is None or not by:
            return False
        return rule.verdict(self.rows(cell.cell_id)) is not None

    def stopped_by(self, cell: Cell) -> str:
        """The rule that stopped the cell as it is trained now; empty when none did."""
        failure = self.failure(cell.cell_id)
        return "" if failure is None else failure.rule

    def failure(self, cell_id: str) -> Failure | None:
        """Why the cell failed or was stopped, as it is trained now: with other data or another torch it did not."""
        return self.store.failure(self.end(cell_id))

    def end(self, cell_id: str) -> str:
        """The stage in which the cell's chain ends: what failures are recorded under."""
        return self.chains[cell_id][-1].stage

    def rows(self, cell_id: str) -> list[Mapping[str, Any]]:
        """The rows of a cell as far as the store holds them; of one that was given up, as far as it came itself."""
        rows, failure = rows_so_far(self.chains[cell_id], self.store), self.failure(cell_id)
        last = None if failure is None else failure.epoch
        return rows if last is None else [row for row in rows if row["epoch"] <= last]

    def with_branches(self, branches: Sequence[Cell]) -> Sweep:
        """The sweep with more cells to train; those that it has already stay as they are."""
        there = {cell.cell_id for cell in self.cells.cells}
        new = tuple(cell for cell in branches if cell.cell_id not in there)
        if not new:
            return self
        cells = replace(self.cells, cells=(*self.cells.cells, *new))
        return replace(self, cells=cells, chains=_chains(self.spec, cells, self.bundles, self.sharing))

    def done(self, cells: Collection[Cell]) -> frozenset[Segment]:
        """The segments of these cells whose last state is stored.

        The last state of a cell that is not finished all the same leans on one that is gone: it is to be trained again.
        """
        segments = {segment for cell in cells for segment in self.chains[cell.cell_id]}
        stored = {stage: set(self.store.epochs(stage)) for stage in {segment.stage for segment in segments}}
        done = {segment for segment in segments if segment.last in stored[segment.stage]}
        ends = ((cell, self.chains[cell.cell_id][-1]) for cell in cells)
        return frozenset(done - {end for cell, end in ends if end in done and not self.finished(cell)})


def own_store(folder: Path) -> str:
    """Where a sweep's store is if it is given no other."""
    return str((folder / "store").resolve())


def source_key(cell: CellConfig) -> str:
    """What decides a cell's data set."""
    return canonical_json(as_dict(cell.data))


def prepare(spec: SweepSpec, output: Path, *, store: str | Path | None = None, sharing: bool = True) -> Sweep:
    """Load the data once per source and name every cell's segments. Writes nothing.

    ``store``: a folder or URL in place of the output's own; ``sharing``: whether cells share the epochs before they
    part. Raises ``DataError`` when a data set cannot be used.
    """
    from core.data.load import load_bundle

    cells = expand(spec)
    sources = {source_key(cell.config): cell.config.data for cell in cells.cells}
    bundles = {key: load_bundle(source) for key, source in sources.items()}
    folder = output / spec.name
    return Sweep(
        spec=spec,
        cells=cells,
        folder=folder,
        store=Store(folder / "store" if store is None else store),
        bundles=bundles,
        chains=_chains(spec, cells, bundles, sharing),
        sharing=sharing,
    )


def _chains(spec: SweepSpec, cells: Cells, bundles: Mapping[str, Bundle], sharing: bool) -> dict[str, Chain]:
    chains: dict[str, Chain] = {}
    for cell in cells.cells:
        need = spec.resources.need(cell.config)
        known = context(bundles[source_key(cell.config)], need.device, need.threads, spec.measurements)
        chains[cell.cell_id] = chain(cell.config, known if sharing else {**known, "alone": cell.cell_id})
    return forest(chains)


def context(bundle: Bundle, device: str, threads: int, measurements: Measurements) -> dict[str, Any]:
    """What beside the configuration decides the bits of a result, and what is measured of it."""
    import torch

    from core.trainer import SEMANTICS_VERSION

    precision = "bfloat16" if device == "cuda" else "float32"
    return {
        "data": bundle.digest,
        "torch": torch.__version__,
        "trainer": SEMANTICS_VERSION,
        "device": device,
        "dtype": precision,
        "threads": threads if device == "cpu" else 0,
        **asdict(measurements),
    }


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the output folder for one process. Raises ``SweepBusyError`` naming the holder when it is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a+")
    except OSError as error:
        raise StoreError(f"cannot write to {folder} ({error.strerror}); name another place with --output") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise SweepBusyError(f"{folder} is in use by {holder}; wait for it or stop it, then run again") from error
        with suppress(OSError):  # a full disk: the place is held all the same, and whoever asks is not told by whom
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {os.uname().nodename}".encode())
        yield
