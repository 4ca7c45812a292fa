"""Pruners: rules that decide which weights stay. A new one is one file and one line here."""

from __future__ import annotations

from core.plugin import named
from core.pruning.channels import Channels
from core.pruning.gmp import GMP
from core.pruning.grasp import GraSP
from core.pruning.lnpt import LNPT
from core.pruning.lowrank import LowRank
from core.pruning.none import NoPruning
from core.pruning.probmask import ProbMask
from core.pruning.pruner import Pruner
from core.pruning.random import Random
from core.pruning.rigl import RigL
from core.pruning.rows import Rows
from core.pruning.screening import Screening
from core.pruning.set import SET
from core.pruning.seven import SEVEN
from core.pruning.snip import SNIP
from core.pruning.synflow import SynFlow

PRUNERS: dict[str, type[Pruner]] = named(
    (NoPruning, Random, SNIP, GraSP, SynFlow, GMP, SEVEN, Screening, LNPT, RigL, SET, ProbMask, Channels, Rows, LowRank)
)
