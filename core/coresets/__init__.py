"""Selectors: rules that choose training samples. A new one is one file and one line here."""

from __future__ import annotations

from core.coresets.ccs import CCS
from core.coresets.craig import Craig
from core.coresets.d2 import D2
from core.coresets.el2n import EL2N
from core.coresets.emp import EMP
from core.coresets.forgetting import Forgetting
from core.coresets.glister import Glister
from core.coresets.gradmatch import GradMatch
from core.coresets.grand import GraNd
from core.coresets.herding import Herding
from core.coresets.infobatch import InfoBatch
from core.coresets.kcenter import KCenter
from core.coresets.moderate import Moderate
from core.coresets.none import NoSelection
from core.coresets.pbcs import PBCS
from core.coresets.prunefuse import PruneFuse
from core.coresets.random import Random
from core.coresets.samples import Selector
from core.coresets.ted import TED
from core.coresets.uncertainty import Uncertainty
from core.plugin import named

SELECTORS: dict[str, type[Selector]] = named(
    (
        NoSelection,
        Random,
        GradMatch,
        Craig,
        Glister,
        Moderate,
        EL2N,
        GraNd,
        Forgetting,
        Uncertainty,
        Herding,
        KCenter,
        CCS,
        D2,
        InfoBatch,
        EMP,
        TED,
        PBCS,
        PruneFuse,
    )
)
