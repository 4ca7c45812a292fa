"""What may be shown of an address."""

from __future__ import annotations

import re

CREDENTIALS = re.compile(r"(?<=://)(?:[^/:\s]*:[^\s]*|[^/\s]*)@")
KEYS = re.compile(r"(?i)(?<=[?&])([\w-]*(?:passw|pwd|token|secret|key)[\w-]*=)[^&\s]+")


def without_secrets(text: str) -> str:
    """The text with ``user:password@`` taken out of every address in it, and what its query calls a secret."""
    return KEYS.sub(r"\1...", CREDENTIALS.sub("", text))
