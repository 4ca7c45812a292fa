"""The same study as a competent user would script it without this platform: Ray Tune over a training function.

    python tests/bench/naive_tune.py sweeps/grids/bench.yaml --output FOLDER

A grid search over the axes of a grid file, every listed cell trained from its first epoch to its last: plain PyTorch,
a DataLoader, Tune's and MLflow's own callbacks. The network, RigL with ERK, the selectors, complete preservation, SGD
and the cosine are written out here as one would; only the data split is ours, so that accuracies can be compared.
Nothing is slowed down on purpose: evaluation and scoring take a whole split as one batch, and masks are updated once
an epoch. Results: ``results.csv`` and ``mlflow.db`` in the output folder.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from core.data import SOURCES
from core.data.load import load_bundle

CLASSES = 10
DROP_FRACTION, STOP = 0.3, 0.75
"""RigL's: of a layer's kept weights, and the share of the epochs after which the mask stays."""

Data = dict[str, tuple[Tensor, Tensor]]
Masks = dict[nn.Parameter, Tensor]


def network(width: int) -> nn.Sequential:
    """Three convolutions on 8 x 8 images and a linear layer."""

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    first, second = convolution(1, width), convolution(width, 2 * width)
    third = convolution(2 * width, 2 * width)
    classifier = [nn.Flatten(), nn.Linear(2 * width * 16, CLASSES)]
    return nn.Sequential(*first, *second, nn.MaxPool2d(2), *third, *classifier)


def erk_masks(model: nn.Module, prune_rate: float) -> Masks:
    """Random masks, each layer's density by the Erdős-Rényi-Kernel; layers whose share is above 1 stay dense."""
    weights = [weight for weight in model.parameters() if weight.dim() > 1]
    dense: set[nn.Parameter] = set()
    while True:
        sparse = [weight for weight in weights if weight not in dense]
        left = (1 - prune_rate) * sum(w.numel() for w in weights) - sum(w.numel() for w in dense)
        scale = left / sum(sum(w.shape) for w in sparse)
        full = {w for w in sparse if scale * sum(w.shape) > w.numel()}
        if not full:
            break
        dense |= full
    kept = {w: w.numel() if w in dense else round(scale * sum(w.shape)) for w in weights}
    masks = {w: torch.randperm(w.numel()).view_as(w) < kept[w] for w in weights}
    with torch.no_grad():
        for weight, mask in masks.items():
            weight.mul_(mask)
    return masks


@torch.no_grad()
def update_masks(masks: Masks, fraction: float, optimizer: torch.optim.Optimizer) -> None:
    """RigL: drop the smallest weights of every layer, grow as many where the gradient is largest."""
    for weight, mask in masks.items():
        alive = int(mask.sum())
        drop = round(fraction * alive)
        stays = torch.zeros_like(mask).flatten()
        stays[weight.abs().masked_fill(~mask, -1).flatten().topk(alive - drop).indices] = True
        grown = weight.grad.abs().flatten().masked_fill(stays, -1).topk(drop).indices
        masks[weight] = stays.index_fill(0, grown, True).view_as(mask)
        weight.mul_(masks[weight])
        momentum = optimizer.state[weight].get("momentum_buffer")
        if momentum is not None:
            momentum.mul_(masks[weight])


@torch.no_grad()
def outputs(model: nn.Sequential, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the classifier's inputs, in evaluation mode."""
    model.eval()
    features = model[:-1](images)
    logits = model[-1](features)
    model.train()
    return logits, features


def select(config: dict[str, Any], model: nn.Sequential, data: Data, past: History, epoch: int) -> Tensor:
    """The indices of the coreset."""
    images, labels = data["train"]
    size = round(config["coreset_ratio"] * len(labels))
    if config["selector"] == "random":
        return torch.randperm(len(labels))[:size]
    if config["selector"] == "forgetting":
        return past.score().topk(size).indices
    logits, features = outputs(model, images)
    if config["selector"] == "el2n":
        error = (logits.softmax(1) - F.one_hot(labels, CLASSES)).norm(dim=1)
        return error.topk(size, largest=epoch / config["epochs"] <= 0.5).indices
    if config["selector"] == "moderate":
        centres = torch.stack([features[labels == label].quantile(0.5, dim=0) for label in range(CLASSES)])
        start = (len(labels) - size) // 2
        return (features - centres[labels]).norm(dim=1).argsort()[start : start + size]
    raise ValueError(f"selector {config['selector']!r} is not in this script")


class History:
    """How often each training sample was forgotten, and whether it was correct when it was last trained on."""

    def __init__(self, samples: int) -> None:
        self.correct = torch.zeros(samples, dtype=torch.bool)
        self.forgotten = torch.zeros(samples)

    def add(self, index: Tensor, correct: Tensor) -> None:
        """A batch was trained on."""
        self.forgotten[index] += (self.correct[index] & ~correct).float()
        self.correct[index] = correct

    def score(self) -> Tensor:
        """Most often forgotten first, never learnt before all; ties at random."""
        unlearnt = (self.forgotten == 0) & ~self.correct
        return self.forgotten.masked_fill(unlearnt, math.inf) + torch.rand(len(self.forgotten)) / 2


class Run:
    """One cell: its network, optimizer, masks and coreset."""

    def __init__(self, config: dict[str, Any], data: Data) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.data = config, data
        self.model = network(config["width"])
        parameters, lr = self.model.parameters(), config["lr"]
        self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config["epochs"])
        self.masks = erk_masks(self.model, config["prune_rate"]) if config["prune_rate"] else {}
        images, labels = data["train"]
        self.past = History(len(labels))
        self.samples = TensorDataset(images, labels, torch.arange(len(labels)))
        self.loader = self._loader(self.samples, len(labels))
        self.recorded: Tensor | None = None

    def _loader(self, samples: Dataset[tuple[Tensor, ...]], size: int) -> DataLoader[tuple[Tensor, ...]]:
        """As many batches as ever, but alike in size: a last one of two or three samples upsets batch norm."""
        batch = math.ceil(size / math.ceil(size / self.config["batch_size"]))
        return DataLoader(samples, batch_size=batch, shuffle=True, num_workers=0)

    def epoch(self, number: int) -> dict[str, float]:
        """Select if it is time, train on what is selected, evaluate."""
        due = number > self.config["warmup_epochs"] and number % self.config["select_every"] == 0
        if due and self.config["coreset_ratio"] < 1:
            coreset = select(self.config, self.model, self.data, self.past, number)
            self.loader = self._loader(Subset(self.samples, coreset.tolist()), len(coreset))
            if self.config["preservation"] == "complete":
                self.recorded = outputs(self.model, self.data["train"][0])[0].log_softmax(1)
        progress = (number - 1) / self.config["epochs"]
        last = len(self.loader) - 1
        losses = [self._step(batch, progress if i == last else STOP) for i, batch in enumerate(self.loader)]
        self.cosine.step()
        return {"loss_train": sum(losses) / len(losses), **self._evaluate("val"), **self._evaluate("test")}

    def _step(self, batch: Sequence[Tensor], progress: float) -> float:
        """Before ``STOP``, ``progress`` makes this the step that updates the masks."""
        images, labels, index = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels)
        if self.config["selector"] == "forgetting":
            self.past.add(index, logits.detach().argmax(1) == labels)
        if self.recorded is not None:
            target = self.recorded[index]
            penalty = F.kl_div(logits.log_softmax(1), target, log_target=True, reduction="batchmean")
            loss = loss + self.config["preservation_weight"] * penalty
        self.optimizer.zero_grad()
        loss.backward()
        if progress < STOP:
            fraction = DROP_FRACTION * (1 + math.cos(math.pi * progress / STOP)) / 2
            update_masks(self.masks, fraction, self.optimizer)
        for weight, mask in self.masks.items():
            weight.grad.mul_(mask)
        self.optimizer.step()
        return loss.item()

    def _evaluate(self, part: str) -> dict[str, float]:
        images, labels = self.data[part]
        logits, _ = outputs(self.model, images)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        return {f"accuracy_{part}": accuracy, f"loss_{part}": F.cross_entropy(logits, labels).item()}


def train(config: dict[str, Any], data: Data) -> None:
    """The trainable."""
    torch.set_num_threads(1)
    run = Run(config, data)
    for epoch in range(1, config["epochs"] + 1):
        tune.report(run.epoch(epoch))


def digits() -> Data:
    """The platform's split of the digits, normalised once."""
    bundle = load_bundle(SOURCES["digits"]())
    parts = {"train": bundle.train, "val": bundle.val, "test": bundle.test}
    mean, std = bundle.mean_C.view(1, -1, 1, 1), bundle.std_C.view(1, -1, 1, 1)
    return {name: ((part.images.float() - mean) / std, part.labels) for name, part in parts.items()}


def space(file: Path, seeds: Sequence[int] | None) -> dict[str, Any]:
    """Tune's search space from a grid file: its settings, and a grid search over its axes."""
    grid = yaml.safe_load(file.read_text())
    axes = grid["axes"] | ({"seed": list(seeds)} if seeds else {})
    settings = {key: value for key, value in grid["cell"].items() if not isinstance(value, dict)}
    settings["width"] = grid["cell"]["model"]["width"]
    return settings | {name: tune.grid_search(values) for name, values in axes.items()}


def main() -> None:
    """Run the grid search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("grid", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+")
    options = parser.parse_args()
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tracking = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="naive")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, data=digits()), {"cpu": 1}),
        param_space=space(options.grid, options.seeds),
        run_config=tune.RunConfig(name="naive", storage_path=str(folder / "ray"), callbacks=[tracking]),
    )
    results = tuner.fit()
    results.get_dataframe().to_csv(folder / "results.csv", index=False)


if __name__ == "__main__":
    main()
