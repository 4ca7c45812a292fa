"""Call a function in a process of its own, which takes along what it imported (torch: half a gigabyte) when it ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from orchestration.errors import UsageError

T = TypeVar("T")
SERVE = "from orchestration.apart import serve; serve()"


@contextmanager
def apart(function: Callable[..., T], *arguments: Any) -> Iterator[Callable[[], T]]:
    """Begin the call; what is yielded waits for its result, or raises what it raised.

    The function is one of a module; arguments, result and exceptions travel as pickles between the two processes alone.
    Raises ``UsageError`` when the process ends without an answer.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-c", SERVE]  # -P: no package of the working directory in place of ours
    with tempfile.TemporaryFile() as asked:
        pickle.dump((function, arguments), asked)
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE, env=environment) as process:
            try:
                yield lambda: _answer(process)
            finally:
                process.kill()


def _answer(process: subprocess.Popen[bytes]) -> Any:
    try:
        result, error = pickle.load(process.stdout)  # type: ignore[arg-type]
    except (EOFError, pickle.UnpicklingError):
        process.wait()
        raise UsageError(
            f"a process of this command ended with status {process.returncode} and no word; "
            "is there too little memory? --inline does without it"
        ) from None
    if error is not None:
        raise error
    return result


def serve() -> None:
    """The other process: read a call from standard input, write its answer to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the first process ends this one
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what a library prints is no part of the answer
        function, arguments = pickle.load(sys.stdin.buffer)
        try:
            answer = function(*arguments)
        except Exception as error:  # raised again over there
            out.write(_pickled(error))
        else:
            pickle.dump((answer, None), out)  # data sets may be in it: nothing is copied


def _pickled(error: Exception) -> bytes:
    try:
        return pickle.dumps((None, error))
    except Exception:  # an error that cannot travel is told in words
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
