"""What may be shown of an address."""

from __future__ import annotations

import re

CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def without_secrets(text: str) -> str:
    """The text with ``user:password@`` taken out of every address in it."""
    return CREDENTIALS.sub("", text)
