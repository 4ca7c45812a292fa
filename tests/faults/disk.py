"""A file system of its own, as small as wanted: for a disk that is full, and one that turns read-only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.machine import wait_until


class Disk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.folder = folder
        self._command = command

    def remount(self, options: str) -> None:
        """Change its size, or whether it can be written (it is busy while some process writes)."""
        wait_until(lambda: self._mount("-o", f"remount,{options}", str(self.folder)) == 0)

    def _mount(self, *arguments: str) -> int:
        return subprocess.run([*self._command, *arguments], capture_output=True, check=False).returncode


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Disk]:
    """Skips the test where this user may mount nothing."""
    folder.mkdir()
    for prefix in ((), ("sudo", "-n")):
        mount = [*prefix, "mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)]
        if shutil.which(mount[0]) and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("a small disk cannot be mounted here: neither root nor sudo without a password")
    try:
        yield Disk(folder, (*prefix, "mount"))
    finally:
        subprocess.run([*prefix, "umount", "--lazy", str(folder)], check=True)
