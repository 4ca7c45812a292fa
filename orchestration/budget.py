"""What a person writes for a budget: ``90s``, ``45m``, ``2h``, ``1.5d``; ``300TFLOP``, ``2PFLOP``; or both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestration.dispatch import Budget
from orchestration.errors import UsageError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FLOP = {"GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15, "EFLOP": 1e18}


def parse(texts: Sequence[str]) -> Budget:
    """The budget of some texts. Raises ``UsageError`` for one that is neither a time nor a number of FLOPs."""
    seconds = flop = None
    for text in texts:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([A-Za-z]+)", text.strip())
        unit = found.group(2) if found else ""
        if not found or unit not in SECONDS | FLOP:
            units = ", ".join((*SECONDS, *FLOP))
            raise UsageError(f"--budget {text}: write a number and one of {units}, such as 2h or 3PFLOP")
        if float(found.group(1)) == 0:
            raise UsageError(f"--budget {text} lasts for nothing; give more than 0")
        if (seconds if unit in SECONDS else flop) is not None:
            raise UsageError(f"--budget {text}: a {'time' if unit in SECONDS else 'FLOP'} is given already; keep one")
        if unit in SECONDS:
            seconds = float(found.group(1)) * SECONDS[unit]
        else:
            flop = float(found.group(1)) * FLOP[unit]
    return Budget(seconds, flop)
