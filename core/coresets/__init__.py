"""Selectors: rules that choose training samples. A new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.coresets.el2n import EL2N
from core.coresets.forgetting import Forgetting
from core.coresets.gradmatch import GradMatch
from core.coresets.moderate import Moderate
from core.coresets.none import NoSelection
from core.coresets.random import Random
from core.coresets.samples import Selector
from core.plugin import choice, named

SELECTORS: dict[str, type[Selector]] = named((NoSelection, Random, GradMatch, Moderate, EL2N, Forgetting))

if TYPE_CHECKING:
    SelectorChoice = Selector
else:
    SelectorChoice = choice(SELECTORS)
