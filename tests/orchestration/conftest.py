"""Fixtures that several files of this folder share."""

from tests.orchestration.collapsing import finished

__all__ = ["finished"]
