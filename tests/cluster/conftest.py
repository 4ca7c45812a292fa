"""One topology for all tests of this folder, started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.services import Topology, postgres_programs, topology

MISSING = "PostgreSQL is not installed (apt-get install postgresql): the cluster was NOT tested"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only when asked for by name (``make cluster-test``): five servers are started."""
    return None if any("cluster" in argument for argument in config.args) else True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Topology]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip(MISSING)
    with topology(programs) as running:
        yield running
