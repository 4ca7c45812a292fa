"""Where a result comes from: commit, host, device, library versions."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "numpy", "pandas", "swast-sweep")


def provenance(device: str) -> dict[str, str]:
    """Tags: git commit of the working directory (``+dirty`` with uncommitted changes), host, device, versions."""
    tags = {"host": platform.node(), "device": device, "python": platform.python_version()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(bool(patch())).lower()
    return tags | {f"version.{name}": version for name, version in versions().items()}


def versions() -> dict[str, str]:
    """Installed versions of the libraries that matter; those that are not installed are left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def patch() -> str:
    """Uncommitted changes of tracked files as a patch; empty when there are none or this is no git checkout."""
    return _git("diff", "HEAD")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=True, cwd=Path.cwd()
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
