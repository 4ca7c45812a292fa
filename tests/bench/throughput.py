"""The trainer against a bare PyTorch loop: same network, data, batches, optimizer, one thread, paired runs.

    python tests/bench/throughput.py [--pairs 7] [--data PARQUET_ROOT]

Prints samples per second of each, and the median and range of the paired ratios. The bare loop is what a careful
person writes by hand: data in memory as bytes, an index tensor per epoch, torch's SGD with its defaults; it evaluates
nothing, keeps nothing and cannot resume. The trainer does all of that; its evaluation is left out of its time. The
``tuned`` bare loop also has the trainer's memory layout (channels last) and fused SGD: what is left is our overhead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from core.config import CellConfig
from core.data.augment import crop_flip
from core.data.bundle import Bundle, Split
from core.data.load import load_bundle
from core.schedule import learning_rate
from core.trainer import Trainer

RIGL = {"pruner": {"name": "rigl", "update_every": 100}, "prune_rate": 0.9}


LAYOUTS = {"bare": torch.contiguous_format, "tuned": torch.channels_last}


class Bare:
    """The hand-written loop's model and optimizer."""

    def __init__(self, cell: CellConfig, bundle: Bundle, kind: str) -> None:
        torch.manual_seed(0)
        self.layout = LAYOUTS[kind]
        self.model = cell.model.build(bundle.image_shape, bundle.num_classes).to(memory_format=self.layout)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=cell.lr,
            momentum=cell.momentum,
            nesterov=True,
            weight_decay=cell.weight_decay,
            fused=kind == "tuned" or None,
        )


def bare_epoch(cell: CellConfig, bundle: Bundle, bare: Bare, epoch: int) -> float:
    """Seconds of one epoch of the hand-written loop."""
    mean, std = bundle.mean_C.view(1, -1, 1, 1), bundle.std_C.view(1, -1, 1, 1)
    generator = torch.Generator().manual_seed(epoch)
    started = time.perf_counter()
    for group in bare.optimizer.param_groups:
        group["lr"] = learning_rate(cell, epoch)
    total = 0.0
    for index_B in torch.randperm(len(bundle.train)).split(cell.batch_size):
        images = bundle.train.images[index_B]
        if cell.augmentation == "crop_flip":
            images = crop_flip(images, generator)
        logits = bare.model((images.to(torch.float32, memory_format=bare.layout) - mean) / std)
        loss = F.cross_entropy(logits, bundle.train.labels[index_B])
        bare.optimizer.zero_grad()
        loss.backward()
        bare.optimizer.step()
        total += loss.item()
    return time.perf_counter() - started


def trainer_epoch(trainer: Trainer, epoch: int) -> float:
    """Seconds of one epoch of the trainer's own loop, mask updates included, without the evaluation."""
    started = time.perf_counter()
    for _ in trainer._train(epoch):
        pass
    return time.perf_counter() - started


def compare(name: str, cell: CellConfig, bundle: Bundle, pairs: int, kind: str) -> None:
    """Alternate the two, an epoch each, and print what came out."""
    bare, trainer = Bare(cell, bundle, kind), Trainer(cell, bundle)
    for _ in trainer._init_mask():
        pass
    seconds = [(bare_epoch(cell, bundle, bare, epoch), trainer_epoch(trainer, epoch)) for epoch in range(1, pairs + 2)]
    theirs, ours = zip(*seconds[1:], strict=True)
    ratios = [b / o for b, o in zip(theirs, ours, strict=True)]
    n = len(bundle.train)
    print(
        f"| {name} | {kind} | {n / statistics.median(theirs):.0f} | {n / statistics.median(ours):.0f} | "
        f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {pairs} |"
    )


def main() -> None:
    """Measure CIFAR shapes (real images where they are at hand, else synthetic ones) and digits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    real = {"name": "parquet", "root": str(options.data), "subset": 5000}
    synthetic = {"name": "synthetic", "samples": 5000, "classes": 10, "channels": 3, "size": 32}
    source = real if options.data.is_dir() else synthetic
    cifar = CellConfig(data=source, batch_size=128, augmentation="crop_flip", epochs=100)
    digits = CellConfig(batch_size=64, epochs=100)
    print("| network | bare loop | bare loop, samples/s | trainer, samples/s | ratio | range | pairs |")
    print("|---|---|---|---|---|---|---|")
    for name, cell in ((f"CIFAR CNN ({source['name']})", cifar), ("digits CNN", digits)):
        bundle = load_bundle(cell.data)
        bundle = replace(bundle, val=Split(bundle.val.images[:1], bundle.val.labels[:1]))
        for kind in LAYOUTS:
            compare(f"{name}, dense", cell, bundle, options.pairs, kind)
            compare(f"{name}, RigL", replace(cell, **RIGL), bundle, options.pairs, kind)


if __name__ == "__main__":
    main()
