"""Passwords in addresses are never shown."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from orchestration.errors import UsageError
from orchestration.files import StoreError, open_files
from orchestration.redaction import without_secrets
from orchestration.speech import say
from orchestration.store import Failure, Store
from orchestration.submit import Submission, options, submit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host:5000/path", "http://host:5000/path"),
        ("postgresql+psycopg://me:p@ss@host/db", "postgresql+psycopg://host/db"),
        ("at http://me@host, and s3://key:word@bucket/x", "at http://host, and s3://bucket/x"),
        ("s3://bucket/folder@home", "s3://bucket/folder@home"),
        ("http://me:pa/ss@host/x", "http://host/x"),
        ("postgresql://host/db?user=me&password=p&sslmode=on", "postgresql://host/db?user=me&password=...&sslmode=on"),
        ("at http://host/?x-token=abc now", "at http://host/?x-token=... now"),
        ("http://host, ask me@host", "http://host, ask me@host"),
    ],
)
def test_what_stands_before_the_host_is_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_nothing_printed_holds_them(capsys: pytest.CaptureFixture[str]) -> None:
    say(Console(), "To go on: swast run --tracking-uri http://me:pass@host")
    assert capsys.readouterr().out == "To go on: swast run --tracking-uri http://host\n"


def test_a_recorded_failure_does_not_either(tmp_path: Path) -> None:
    Store(tmp_path).fail("a", Failure("a", "no http://me:pass@host", "Traceback: http://me:pass@host"))
    record = json.loads((tmp_path / "failures" / "a.json").read_text())
    assert (record["reason"], record["detail"]) == ("no http://host", "Traceback: http://host")


def test_keys_in_a_store_address_are_refused_without_showing_them() -> None:
    with pytest.raises(StoreError, match=r"^s3://bucket/x: keys .* are not read; set AWS_ACCESS_KEY_ID") as caught:
        open_files("s3://key:word@bucket/x")
    assert "word" not in str(caught.value)


def test_a_password_is_never_put_into_a_job_s_command(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("name: a\n")
    given = options((), Path("out"), "http://me:pass@mlflow:5000", None, ())
    with pytest.raises(UsageError, match=r"^http://mlflow:5000 was given with a password.*MLFLOW_TRACKING_PASSWORD"):
        submit(Submission(grid, given), "http://127.0.0.1:1", Console(), follow=False)
