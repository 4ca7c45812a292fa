"""Files by name below one place: a folder, or whatever fsspec reaches (``s3://bucket/prefix``).

A file is there whole or not at all, and stays what it is until it is written again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping, Set
from copy import copy
from pathlib import Path
from typing import Any, Protocol

from orchestration.redaction import without_secrets

TEMPORARY = ".tmp"
"""How the name of a file ends that is being written."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreError(OSError):
    """A place cannot be written or read: one sentence that says where and why."""


class Files(Protocol):
    """Names are relative, with slashes. All but ``read`` raise ``StoreError``."""

    place: str
    """The folder or URL, without secrets: for messages."""
    locator: str
    """What ``open_files`` opens anywhere; not for messages."""

    def read(self, name: str) -> bytes:
        """The content. Raises ``FileNotFoundError``, or ``StoreError`` when the place does not answer."""

    def write(self, name: str, content: bytes) -> None:
        """Put the content there whole, whatever was there before."""

    def names(self, folder: str) -> list[str]:
        """The names directly below a folder, sorted; none when it does not exist."""

    def size(self, name: str) -> int:
        """Bytes; 0 when it is not there."""

    def age(self, name: str) -> float:
        """Seconds since it was written; 0 when it is not there."""

    def remove(self, name: str) -> None:
        """Remove it if it is there."""

    def rename(self, name: str, new: str) -> None:
        """Give it another name if it is there."""

    def snapshot(self) -> Files:
        """The same, for who asks of thousands of names, most of which are not there: that takes no requests then.

        What others write later may be missing in it.
        """


def open_files(place: str | Path) -> Files:
    """The files below a folder, or below a URL that fsspec knows.

    Raises ``StoreError`` for a URL whose protocol is not installed, and for one that holds keys.
    """
    text = os.fspath(place)
    protocol, marker, rest = text.partition("://")
    if not marker:
        return LocalFiles(Path(text))
    return LocalFiles(Path(rest)) if protocol == "file" else RemoteFiles(text)


class LocalFiles:
    """Files in a folder that this process can write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)
        self.locator = str(root.resolve())

    def read(self, name: str) -> bytes:
        """The content. Raises ``FileNotFoundError``."""
        with _told(f"cannot read {self.root / name}"):
            return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write to a temporary name, sync, rename."""
        write_atomically(self.root / name, content)

    def names(self, folder: str) -> list[str]:
        """The names directly below a folder."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot list {self.root / folder}"):
            return sorted(os.listdir(self.root / folder))
        return []

    def size(self, name: str) -> int:
        """Bytes; 0 when it is not there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot read {self.root / name}"):
            return (self.root / name).stat().st_size
        return 0

    def age(self, name: str) -> float:
        """Seconds since it was written; 0 when it is not there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot read {self.root / name}"):
            return time.time() - (self.root / name).stat().st_mtime
        return 0.0

    def remove(self, name: str) -> None:
        """Remove it if it is there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot remove {self.root / name}"):
            (self.root / name).unlink()

    def rename(self, name: str, new: str) -> None:
        """Give it another name if it is there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot rename {self.root / name}"):
            os.replace(self.root / name, self.root / new)

    def snapshot(self) -> LocalFiles:
        """Itself: a disk is quick to say what is not there."""
        return self


class RemoteFiles:
    """Files in an object store: one put is atomic there, and nothing is listed from a cache but a ``snapshot``."""

    def __init__(self, url: str) -> None:
        import fsspec

        self._there: Mapping[str, Set[str]] | None = None
        self.place = without_secrets(url)
        if self.place != url:  # fsspec would take them for a part of the name
            way = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or what its protocol reads) on every node instead"
            raise StoreError(f"{self.place}: keys in a store's address are not read; {way}")
        protocol, self.locator = url.partition("://")[0], url
        with _told(f"cannot open {self.place}"):
            options = {"use_listings_cache": False, "skip_instance_cache": True}
            self._fs: Any = fsspec.filesystem(protocol, **options)
            self._root = self._fs._strip_protocol(url).rstrip("/")

    def read(self, name: str) -> bytes:
        """The content. Raises ``FileNotFoundError``."""
        folder, _, last = name.rpartition("/")
        if self._there is not None and last not in self._there.get(folder, ()):
            raise FileNotFoundError(name)
        with _told(f"cannot read {self.place}/{name}"):
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """One put."""
        what = f"cannot write {self.place}/{name}"
        try:
            with _told(what):
                self._fs.pipe_file(f"{self._root}/{name}", content)
        except FileNotFoundError as error:  # what is missing to a put is no file
            raise StoreError(f"{what}: {error}; is there such a bucket?") from error

    def names(self, folder: str) -> list[str]:
        """The names directly below a folder."""
        if self._there is not None:
            return sorted(self._there.get(folder, ()))
        with contextlib.suppress(FileNotFoundError), _told(f"cannot list {self.place}/{folder}"):
            found = self._fs.ls(f"{self._root}/{folder}", detail=False)
            return sorted({str(path).rstrip("/").rpartition("/")[2] for path in found})
        return []

    def size(self, name: str) -> int:
        """Bytes; 0 when it is not there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot read {self.place}/{name}"):
            return int(self._fs.size(f"{self._root}/{name}") or 0)
        return 0

    def age(self, name: str) -> float:
        """Seconds since it was written; 0 when it is not there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot read {self.place}/{name}"):
            return time.time() - float(self._fs.modified(f"{self._root}/{name}").timestamp())
        return 0.0

    def remove(self, name: str) -> None:
        """Remove it if it is there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot remove {self.place}/{name}"):
            self._fs.rm_file(f"{self._root}/{name}")

    def rename(self, name: str, new: str) -> None:
        """Give it another name if it is there."""
        with contextlib.suppress(FileNotFoundError), _told(f"cannot rename {self.place}/{name}"):
            self._fs.mv(f"{self._root}/{name}", f"{self._root}/{new}")

    def snapshot(self) -> RemoteFiles:
        """A copy that knows what is there now."""
        found: dict[str, set[str]] = {}
        with contextlib.suppress(FileNotFoundError), _told(f"cannot list {self.place}"):
            for path in self._fs.find(self._root):
                parts = str(path).removeprefix(self._root).strip("/").split("/")
                for depth, part in enumerate(parts):
                    found.setdefault("/".join(parts[:depth]), set()).add(part)
        known = copy(self)
        known._there = found
        return known


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a place answers, as one sentence; that a file is missing is no error of the place."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(f"{what}: {error.strerror}") from error
    except ImportError as error:
        raise StoreError(f"{what}: {error}; it is needed on every node (s3:// by pip install 's3fs')") from error
    except Exception as error:
        raise StoreError(f"{what}: {without_secrets(_reason(error))}") from error


def _reason(error: Exception) -> str:
    """What a place answers, and what to do about it where that is known."""
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    full = isinstance(error, OSError) and error.errno in FULL
    return f"{said}; make room, then give the same command again" if full else said


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside ``path``, sync, rename. Raises ``StoreError``; nothing half-written is left."""
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside ``path`` that no other process on any node sharing the folder uses."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}{TEMPORARY}")
