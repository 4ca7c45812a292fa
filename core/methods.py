"""All pruners and selectors that a cell may name: ours, and those of other installed packages.

Apart from our own tables, so that a package may import any submodule of ``core.pruning`` and ``core.coresets``: these
do not load it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from core import coresets, pruning
from core.coresets.samples import Selector
from core.plugin import choice
from core.pruning.pruner import Pruner
from core.third_party import Offers, offered

_pruners = offered("swast.pruners", Pruner, pruning.PRUNERS)
_selectors = offered("swast.selectors", Selector, coresets.SELECTORS)

OFFERS: Mapping[str, Offers[Pruner] | Offers[Selector]] = {"pruner": _pruners, "selector": _selectors}
"""What other packages offer, by kind."""
PRUNERS: Mapping[str, type[Pruner]] = {**pruning.PRUNERS, **_pruners.classes}
SELECTORS: Mapping[str, type[Selector]] = {**coresets.SELECTORS, **_selectors.classes}

if TYPE_CHECKING:
    PrunerChoice = Pruner
    SelectorChoice = Selector
else:
    PrunerChoice = choice(PRUNERS)
    SelectorChoice = choice(SELECTORS)
