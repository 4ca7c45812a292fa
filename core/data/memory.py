"""Whether a data set fits in memory, where it lies as bytes for as long as a run takes."""

from __future__ import annotations

import os
from pathlib import Path

from core.data.source import DataError

SHARE = 0.5
"""Of the machine's memory that one data set may take: Ray's workers read a second copy, and networks want the rest."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def check_fits(images: int, image_bytes: int, name: str) -> None:
    """Raises ``DataError`` when so many images of so many bytes take more than ``SHARE`` of this machine's memory."""
    needed, room = images * image_bytes, SHARE * memory()
    if needed > room:
        asked = f"{images:,} images of {name} take {needed / 1e9:.3g} GB of memory"
        allowed = f"a data set may take {room / 1e9:.3g} GB here, half of what there is"
        way = "take fewer or smaller ones (data.subset, data.image_size, data.samples), or a larger machine"
        raise DataError(f"{asked}, and {allowed}: {way}")


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or fewer where its container is told so."""
    told = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((whole, *(int(text) for text in told if text.isdigit())))
