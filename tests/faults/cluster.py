"""A Ray cluster of real processes on this machine: a head without slots, and two nodes of one slot each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.faults.machine import descendants, wait_until, workers

HEAD = "127.0.0.2"
"""Ray takes 127.0.0.1 for the address of the outer interface."""


class Cluster:
    """Nodes are started as ``ray start`` starts them, and killed as a power cut does."""

    def __init__(self, folder: str, port: int, environment: Mapping[str, str]) -> None:
        self.address = f"{HEAD}:{port}"
        self._environment = {**environment, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._started = 0
        options = (f"--port={port}", f"--node-ip-address={HEAD}", f"--temp-dir={folder}", "--include-dashboard=false")
        self._head = self._start("--head", "--num-cpus=0", *options)

    def complete(self) -> None:
        """Start nodes until there are two."""
        self._nodes = [node for node in self._nodes if node.poll() is None]
        while len(self._nodes) < 2:
            self._nodes.append(self._start(f"--address={self.address}", "--num-cpus=1"))

    @property
    def workers(self) -> set[int]:
        """The processes on its nodes that train cells."""
        return {pid for node in self._nodes for pid in workers(node.pid)}

    def kill_node_of(self, pid: int) -> None:
        """End all processes of the node that a process runs on, at once."""
        node = next(node for node in self._nodes if pid in descendants(node.pid))
        _kill(node)

    def end(self) -> None:
        for process in (*self._nodes, self._head):
            _kill(process)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node and wait until it takes part."""
        ray = Path(sys.executable).with_name("ray")
        log = Path(self._folder) / f"start-{self._started}.txt"
        self._started += 1
        with log.open("w") as file:
            command = [ray, "start", "--block", "--disable-usage-stats", *options]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment)

        def joined() -> bool:
            assert process.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        wait_until(joined)
        return process


def _kill(node: subprocess.Popen[bytes]) -> None:
    for pid in (*descendants(node.pid), node.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.wait()
