"""Errors of use that no other module owns."""

from __future__ import annotations


class UsageError(ValueError):
    """A command that cannot be carried out as given: one sentence that says why and what to do."""
