"""Lines for a person: plain text that is never taken for markup, not wrapped where it would break a path."""

from __future__ import annotations

from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from orchestration.redaction import without_secrets

Line: TypeAlias = tuple[str] | tuple[str, str]
"""A text, and its label if it has one."""
STYLES = {"failed": "red", "warning": "yellow", "note": "yellow", "ok": "green", "BAD": "red"}


def say(console: Console, text: str, label: str = "") -> None:
    """Print one line, after a coloured label if there is one."""
    told = without_secrets(text)
    parts = [(label, STYLES.get(label, "bold")), " ", told] if label else [told]
    console.print(Text.assemble(*parts), soft_wrap=True)
