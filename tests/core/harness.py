"""A trainer in miniature that follows the pruner protocol, and the fixtures of the conformance kits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from core.coresets.samples import Copy, Samples
from core.data.bundle import Bundle, Split
from core.masking import parts_of
from core.network import Network
from core.probe import NetworkProbe
from core.pruning.couplings import Structure
from core.pruning.cuts import Surgery
from core.pruning.pruner import Moment, Probe, Pruner, View
from core.pruning.scope import Group, classifier, groups, prunable
from core.rng import generator
from core.surgery import operate

if TYPE_CHECKING:
    from core.pruning.pruner import Change, Mask, State

EPOCHS, STEPS, EVERY = 8, 3, 2


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10), nn.Linear(10, 3)]
        return nn.Sequential(*layers).to(dtype)


def one_group(model: nn.Module, rate: float) -> tuple[Group, ...]:
    return groups({name: tuple(w.shape) for name, w in prunable(model).items()}, classifier(model), "all", rate)


def two_groups(model: nn.Module, rate: float, fc_rate: float) -> tuple[Group, ...]:
    return groups(
        {name: tuple(w.shape) for name, w in prunable(model).items()}, classifier(model), "all", rate, fc_rate
    )


def moment(epoch: int, step_in_epoch: int = 0, epochs: int = EPOCHS, steps: int = STEPS, every: int = EVERY) -> Moment:
    return Moment(epoch, epochs, max(0, epoch - 1) * steps + step_in_epoch, step_in_epoch, steps, every, every)


class Plain(Network):
    """A network whose inputs are floats already, in the module's own precision."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, cast("Bundle", SimpleNamespace(mean_C=torch.zeros(1), std_C=torch.ones(1))))

    def inputs(self, images: Tensor) -> Tensor:
        return images


def answering(**answers: object) -> Probe:
    """A probe that gives these answers and no others."""
    return cast("Probe", SimpleNamespace(**answers))


@dataclass
class Run:
    """Trains ``network`` on noise; iterating yields every new mask with its moment, the one of init first."""

    pruner: Pruner
    groups: tuple[Group, ...]
    model: nn.Module = field(default_factory=network)
    seed: int = 0
    steps: int = STEPS
    state: State = field(default_factory=dict)
    mask: Mask = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Moment, Mask]]:
        weights = prunable(self.model)
        self.weights = {name: weights[name] for group in self.groups for name in group.layers}
        self.mask = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.state, mask = self.pruner.init(self.view(moment(0), {}))
        yield moment(0), self.apply(mask)
        for epoch in range(1, EPOCHS + 1):
            # A checkpoint at every epoch end: plain, detached copies have to be enough to go on.
            self.state = {name: tensor.detach().clone() for name, tensor in self.state.items()}
            for now in (moment(epoch, i, steps=self.steps) for i in range(self.steps)):
                change = self.train(now)
                if change is not None:
                    yield now, self.apply(change)
                self.sgd.step()
                self.weigh(self.mask)

    def train(self, now: Moment) -> Change | None:
        self.sgd.zero_grad()
        weights: Mapping[str, Tensor] = dict(self.weights)
        if self.pruner.learns_forward:
            weights = self.pruner.forward_weights(self.state, weights, now, generator(self.seed, "prune", now.step))
        self.loss(weights, now.step).backward()
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        self.state, change = self.pruner.step(self.state, self.view(now, gradients))
        return change

    def loss(self, weights: Mapping[str, Tensor], step: int) -> Tensor:
        first = next(self.model.parameters())
        images = torch.randn(8, 2, 5, 5, generator=generator(self.seed, "order", step)).to(first)
        labels = (torch.arange(8) % 3).to(first.device)
        return cross_entropy(functional_call(self.model, dict(weights), (images,)), labels)

    def view(self, now: Moment, gradients: Mapping[str, Tensor]) -> View:
        stored = {name: weight.detach() for name, weight in self.weights.items()}
        return View(
            moment=now,
            groups=self.groups,
            weights=stored,
            gradients=gradients,
            mask=self.mask,
            probe=self.probe(),
            generator=lambda: generator(self.seed, "prune", now.epoch, now.step_in_epoch),
        )

    def probe(self) -> Probe:
        first = next(self.model.parameters())
        images = torch.randn(12, 2, 5, 5, generator=generator(self.seed, "order")).to(first)
        batch = Split(images, (torch.arange(12) % 3).to(first.device))
        return NetworkProbe(Plain(self.model), lambda: batch, batch, lambda samples, backward=False: None)

    def apply(self, change: Change | None) -> Mask:
        if isinstance(change, Surgery):
            self.cut(change)
        elif change is not None:
            self.weigh({name: self.mask[name] & keep for name, keep in change.items()})
            self.mask = change
        return self.mask

    def cut(self, surgery: Surgery) -> None:
        operate(Plain(self.model), self.sgd, surgery)
        weights = prunable(self.model)
        names = [tuple(now for layer in group.layers for now in parts_of(layer, weights)) for group in self.groups]
        self.groups = tuple(replace(group, layers=layers) for group, layers in zip(self.groups, names, strict=True))
        self.weights = {name: weights[name] for layers in names for name in layers}
        self.mask = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}

    def weigh(self, mask: Mask) -> None:
        for name, keep in () if self.pruner.learns_forward else mask.items():
            self.weights[name].data.mul_(keep)
            buffer = self.sgd.state[self.weights[name]].get("momentum_buffer")
            _ = None if buffer is None else buffer.mul_(keep)


def view_of(
    weights: Tensor,
    *,
    rate: float,
    now: Moment,
    mask: Tensor | None = None,
    gradient: Tensor | None = None,
    seed: int = 0,
    probe: Probe | None = None,
) -> View:
    """The view of one layer, named w, that is a group of its own."""
    return View(
        moment=now,
        groups=(Group(("w",), rate),),
        weights={"w": weights},
        gradients={} if gradient is None else {"w": gradient},
        mask={"w": torch.ones_like(weights, dtype=torch.bool) if mask is None else mask},
        probe=probe or answering(loss=lambda weights: weights["w"].sum()),
        generator=lambda: torch.Generator().manual_seed(seed),
    )


@dataclass(frozen=True)
class Told:
    """Copies of ``network`` that nobody trains: their logits are told."""

    logits_NC: Tensor

    def structure(self) -> Structure:
        return Structure(network().eval(), torch.zeros(1, 2, 5, 5))

    def trained(self, surgery: Surgery, epochs: int, rng: torch.Generator) -> Copy:
        return Copy(surgery, {}, self.logits_NC)


def samples(n: int = 60, num_classes: int = 4, seed: int = 0, empty: int | None = None) -> Samples:
    """Random samples of every kind, and a validation split; class ``empty`` has none."""
    draw = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(num_classes, (n,), generator=draw)
    if empty is not None:
        labels_N[labels_N == empty] = (empty + 1) % num_classes
    correct_N = torch.rand(n, generator=draw) < 0.6
    return Samples(
        labels_N=labels_N,
        num_classes=num_classes,
        logits_NC=torch.randn(n, num_classes, generator=draw),
        features_ND=torch.randn(n, 5, generator=draw).relu(),
        loss_N=torch.rand(n, generator=draw),
        correct_N=correct_N,
        forgotten_N=torch.randint(4, (n,), generator=draw),
        margin_N=2 * torch.rand(n, generator=draw) - 1,
        validation=Samples(
            labels_N=torch.randint(num_classes, (20,), generator=draw),
            num_classes=num_classes,
            logits_NC=torch.randn(20, num_classes, generator=draw),
            features_ND=torch.randn(20, 5, generator=draw).relu(),
        ),
        entropy_N=torch.rand(n, generator=draw),
        kept_N=torch.rand(n, generator=draw) < 0.5,
        apart=Told(torch.randn(n, num_classes, generator=draw)),
    )


def each(given: Samples, change: Callable[[Tensor], Tensor]) -> Samples:
    """The samples with ``change`` made to every tensor."""
    made = {f.name: change(value) for f in fields(given) if isinstance(value := getattr(given, f.name), Tensor)}
    within = None if given.validation is None else each(given.validation, change)
    apart = Told(change(given.apart.logits_NC)) if isinstance(given.apart, Told) else None
    return replace(given, **made, validation=within, apart=apart)


def digest(tensors: Iterable[Tensor]) -> str:
    data = b"".join(tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(data).hexdigest()
