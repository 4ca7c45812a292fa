"""A sweep as a Ray job: the grid and our code are handed over, the log is followed; the cluster does the rest."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestration.errors import UsageError
from orchestration.launch import ENVIRONMENT, ClusterError, our_packages, set_environment
from orchestration.redaction import without_secrets
from orchestration.speech import say

COMMAND = "from orchestration.cli import main; main()"


@dataclass(frozen=True)
class Submission:
    """What the cluster is asked to run; ``options`` go to ``swast run`` as they are."""

    file: Path
    options: tuple[str, ...]

    @property
    def entrypoint(self) -> str:
        """The command of the job, in a folder that holds the grid file and our packages."""
        return shlex.join(["python", "-c", COMMAND, "run", self.file.name, "--address", "auto", *self.options])

    def check(self) -> None:
        """Raises ``UsageError`` when an address in the options holds a password: a job's command is for all to see."""
        for option in self.options:
            if option != without_secrets(option):
                why = f"{without_secrets(option)} was given with a password, which the job's description would show"
                way = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where Ray is started instead"
                raise UsageError(f"{why}; {way}")

    def collect(self, folder: Path) -> None:
        """Copy the grid file and our packages into a folder."""
        shutil.copy(self.file, folder / self.file.name)
        for source in our_packages():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))


def submit(submission: Submission, address: str, console: Console, *, follow: bool) -> int:
    """Hand the sweep to the cluster's job server at ``address`` and print its log until it ends.

    0 when the job succeeded, 1 when it failed; 0 at once without ``follow``. Raises ``ClusterError`` when nobody
    answers or the connection is lost, ``UsageError`` when the file is not there.
    """
    if not submission.file.is_file():
        raise UsageError(f"{submission.file}: there is no such grid file")
    submission.check()
    client = _connect(address)
    with tempfile.TemporaryDirectory(prefix="swast-job-") as folder:
        submission.collect(Path(folder))
        job = _handed_over(client, submission, folder, address)
    say(console, f"{address} runs it as {job}; ray job logs --address {address} --follow {job}", "submitted")
    if not follow:
        return 0
    try:
        asyncio.run(_follow(client, job, console))
        status = client.get_job_status(job)
    except Exception as error:  # its own errors share no class
        reason = " ".join(str(error).split()) or type(error).__name__
        way = f"ray job logs --address {address} --follow {job}"
        raise ClusterError(f"lost {address} ({reason}), which does not end the job; to see it: {way}") from error
    say(console, f"{job}: {status.value.lower()}")
    return 0 if status.value == "SUCCEEDED" else 1


def _handed_over(client: Any, submission: Submission, folder: str, address: str) -> str:
    """The name of the job that the cluster makes of it."""
    try:
        job: str = client.submit_job(
            entrypoint=submission.entrypoint,
            runtime_env={"working_dir": folder, "env_vars": dict(ENVIRONMENT)},
            metadata={"swast": submission.file.stem},
        )
    except Exception as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ClusterError(f"{address} does not take the job ({reason}); its dashboard's log says more") from error
    return job


def _connect(address: str) -> Any:
    set_environment(joining=True)
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except Exception as error:  # its own errors share no class
        reason = " ".join(str(error).split()).partition(". ")[0]
        hint = "is the dashboard on, as ray[default] brings it, and RAY_AUTH_TOKEN the cluster's?"
        raise ClusterError(f"no Ray job server answers at {address} ({reason}); {hint}") from error
    logging.getLogger("ray").setLevel(logging.WARNING)  # the client sets it to tell of every package it uploads
    return client


async def _follow(client: Any, job: str, console: Console) -> None:
    async for text in client.tail_job_logs(job):
        for line in text.splitlines():
            say(console, line)


def options(
    overrides: Sequence[str], output: Path, tracking_uri: str | None, store: str | None, budget: Sequence[str]
) -> tuple[str, ...]:
    """The options of ``swast run`` that go along."""
    given = [("--set", override) for override in overrides] + [("--output", str(output))]
    given += [("--tracking-uri", tracking_uri)] if tracking_uri else []
    given += [("--store", store)] if store else []
    given += [("--budget", text) for text in budget]
    return tuple(part for pair in given for part in pair)
