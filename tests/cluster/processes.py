"""Processes of a test: started with a log of their own, waited for, and ended with all that they started."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 300.0
"""Seconds; generous, because machines that run tests are busy."""
LISTENS = "0A"
"""The state of such a socket in /proc/net."""
SET_PARENT_DEATH_SIGNAL = 1
"""An operation of prctl(2)."""


@dataclass
class Service:
    """A running process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: int = signal.SIGTERM

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until it answers; whatever ``ready`` raises means not yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.said()}"
            with contextlib.suppress(Exception):
                if ready():
                    return
            assert time.monotonic() < deadline, f"{self.name} does not answer:\n{self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """End it, and whatever of its descendants outlives it."""
        left = {pid: born for pid in descendants(self.process.pid) if (born := _born(pid))}
        self.process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid, born in left.items():
            if _born(pid) == born:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def start(name: str, command: Sequence[str | Path], env: Mapping[str, str], folder: Path, **options: Any) -> Service:
    """Start a process in a session of its own, so that a Ctrl-C for the tests is not one for it."""
    stop_signal = options.pop("stop_signal", signal.SIGTERM)
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, command)),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_tests,
            **{"cwd": folder, **options},
        )
    return Service(name, process, log, stop_signal)


def _end_with_the_tests() -> None:
    """In the new process: be told when the tests are killed, which then cannot end it."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def descendants(pid: int) -> Iterator[int]:
    """Processes below ``pid``."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def _born(pid: int) -> str:
    """When a process started: a number used again is another process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def listening(pid: int) -> set[str]:
    """The addresses on which a process or a descendant of it listens."""
    sockets: set[str] = set()
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{one}/fd"):
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(f"/proc/{one}/fd/{name}"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENS and f"socket:[{rest[5]}]" in sockets:
                found.add(_address(local.partition(":")[0]))
    return found


def _address(text: str) -> str:
    """An address as the kernel writes it: words of four bytes, in the order of this machine's."""
    words = (bytes.fromhex(text[place : place + 8])[::-1] for place in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listens(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0
