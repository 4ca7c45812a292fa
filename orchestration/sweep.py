"""A sweep made ready: its cells, their chains under this machine's context, what is finished and what is to do."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import CellConfig, as_dict, canonical_json
from core.data.bundle import Bundle
from orchestration.runner import finished_rows
from orchestration.store import Store, StoreError, write_atomically
from sweeps.cells import Cell, Cells, expand
from sweeps.spec import SweepSpec
from sweeps.stages import Segment, chain


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
    chains: Mapping[str, tuple[Segment, ...]]
    """By cell_id."""
    device: str
    threads: int
    known: set[str] = field(default_factory=set, compare=False)
    """Cells found finished so far: a finished cell stays so, and is not read again to see it."""

    def bundle(self, cell: CellConfig) -> Bundle:
        """The data set of a cell."""
        return self.bundles[source_key(cell)]

    def history(self, cell: Cell) -> tuple[list[Mapping[str, Any]], bool] | None:
        """The rows of a finished cell and whether it diverged; ``None`` when it is not finished."""
        return finished_rows(self.chains[cell.cell_id], self.store)

    def to_do(self) -> tuple[Cell, ...]:
        """Wanted minus finished, in grid order."""
        return tuple(cell for cell in self.cells.cells if not self.finished(cell))

    def finished(self, cell: Cell) -> bool:
        """Whether the store holds the cell's last epoch."""
        if cell.cell_id not in self.known and self.history(cell) is not None:
            self.known.add(cell.cell_id)
        return cell.cell_id in self.known


def source_key(cell: CellConfig) -> str:
    """What decides a cell's data set."""
    return canonical_json(as_dict(cell.data))


def prepare(spec: SweepSpec, output: Path) -> Sweep:
    """Load the data once per source and name every cell's segments. Writes nothing.

    Raises ``DataError`` when a data set cannot be used.
    """
    from core.data.load import load_bundle

    cells = expand(spec)
    sources = {source_key(cell.config): cell.config.data for cell in cells.cells}
    bundles = {key: load_bundle(source) for key, source in sources.items()}
    device = "cuda" if spec.resources.gpus else "cpu"
    threads = max(1, int(spec.resources.cpus))
    contexts = {key: context(bundle, device, threads) for key, bundle in bundles.items()}
    folder = output / spec.name
    return Sweep(
        spec=spec,
        cells=cells,
        folder=folder,
        store=Store(folder / "store"),
        bundles=bundles,
        chains={cell.cell_id: chain(cell.config, contexts[source_key(cell.config)]) for cell in cells.cells},
        device=device,
        threads=threads,
    )


def context(bundle: Bundle, device: str, threads: int) -> dict[str, Any]:
    """What beside the configuration decides the bits of a result."""
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
    }


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the output folder for one process. Raises ``SweepBusyError`` naming the holder when it is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise StoreError(f"cannot write to {folder} ({error.strerror}); name another place with --output") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise SweepBusyError(f"{folder} is in use by {holder}; wait for it or stop it, then run again") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
