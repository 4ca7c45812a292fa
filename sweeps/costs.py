"""What a cell will cost, foretold from its configuration: samples, mask updates, FLOP."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from core.config import CellConfig, first_selection, preservation_starts, prunes
from core.coresets.samples import Beside, Selector, Sizes
from core.data import Facts
from core.flops import LayerMacs, Ledger, calibration_flops, forward_flops, scoring_flops, training_flops
from core.measurements import TRAINING_ALONE, Measurements
from core.models import Model
from core.pruning.pruner import CALIBRATION, Moment, Pruner
from core.pruning.schedule import density_at
from core.pruning.scheduled import Scheduled
from core.pruning.scope import Group, Scope, groups
from core.rounding import count
from core.schedule import batches_in, due_at, phase, selects, switches, switches_at
from sweeps.sharing import Work

if TYPE_CHECKING:
    from torch import nn

    from core.pruning.couplings import Structure


@dataclass(frozen=True)
class Cost:
    """Epochs that train, samples trained on, and FLOP as in ``core.flops.Ledger``; ``None`` where torch is absent.

    ``dense`` is what dense kernels execute for training and selection; ``sparse`` the theoretical cost of both.
    ``full`` is the yardstick of relative cost: dense training on all samples in every epoch.
    """

    epochs: int = 0
    samples: int = 0
    dense: float | None = 0.0
    sparse: float | None = 0.0
    full: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.epochs + other.epochs,
            self.samples + other.samples,
            _plus(self.dense, other.dense),
            _plus(self.sparse, other.sparse),
            _plus(self.full, other.full),
        )


def _plus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


@dataclass(frozen=True)
class Epoch:
    """What one epoch does. ``position`` is the share of the final prune rate in force for most of it."""

    samples: int
    steps: int
    updates: int
    position: float


def epochs_of(cell: CellConfig, train_size: int) -> tuple[Epoch, ...]:
    """The epochs 1 to T of a cell that trains on ``train_size`` samples at most."""
    sizes = {"full": train_size, "idle": 0, "coreset": 0}
    epochs, step, due = [], 0, float(cell.pruner.position(_moment(cell, 1)) == 1)
    for t in range(1, cell.epochs + 1):
        if switches_at(cell, t):
            sizes["coreset"] = count(cell.selector.foretold(cell.coreset_ratio, t / cell.epochs), train_size)
        samples = sizes[phase(cell, t)]
        steps = batches_in(samples, cell.batch_size)
        moment = _moment(cell, t, step, steps)
        updates = cell.pruner.updates(moment) if prunes(cell) and steps else 0
        before, due = due, cell.pruner.position(moment) if updates else due
        # A method that learns through the forward pass renews its mask at the end of an epoch.
        epochs.append(Epoch(samples, steps, updates, before if cell.pruner.learns_forward else due))
        step += steps
    return tuple(epochs)


def updates_after_switch(cell: CellConfig, epochs: Sequence[Epoch]) -> int | None:
    """Mask updates due from the first switch on; ``None`` for a cell that does not both prune and select."""
    switched = switches(cell)[:1]
    return sum(epoch.updates for epoch in epochs[switched[0] - 1 :]) if switched and prunes(cell) else None


def starts_too_late(cell: CellConfig) -> int | None:
    """The epoch in which a gradual pruner removes all at once, as its start is not before its end; else ``None``."""
    if not prunes(cell) or not isinstance(cell.pruner, Scheduled):
        return None
    begins = cell.pruner.acts_from(cell.epochs, first_selection(cell))  # the cubic is 0 there, and above in the next
    for epoch in (begins, min(begins + 1, cell.epochs)):
        position = cell.pruner.position(_moment(cell, epoch))
        if position > 0:
            return epoch if position == 1 and cell.epochs > 1 else None
    return None


def _moment(cell: CellConfig, epoch: int, step: int = 0, steps: int = 1) -> Moment:
    """The first of an epoch's ``steps``; ``step`` counts those of the run before it."""
    return Moment(epoch, cell.epochs, step, 0, steps, cell.select_every, first_selection(cell))


# --- FLOP ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Network:
    """What the cost of a model depends on; ``structure`` is the model itself, built without initial values."""

    layers: tuple[LayerMacs, ...]
    parameters: int
    structure: Structure

    def groups(self, scope: Scope, prune_rate: float, fc_prune_rate: float | None) -> tuple[Group, ...]:
        """What is pruned, to which rates."""
        return groups(self.structure.shapes, self.structure.classifier, scope, prune_rate, fc_prune_rate)


@lru_cache(maxsize=64)
def network(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> Network | None:
    """The model, measured; ``None`` where torch is absent.

    Raises ``ValueError`` when the model cannot take the image shape.
    """
    try:
        import torch

        from core.macs import measure
    except ImportError:
        return None
    from core.pruning.couplings import Structure

    module = _unwritten(model, image_shape, num_classes)
    parameters = sum(tensor.numel() for tensor in module.state_dict().values())
    layers = measure(module, image_shape)
    return Network(layers, parameters, Structure(module.eval(), torch.zeros(1, *image_shape)))


def _unwritten(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The model, built without initial values."""
    import torch

    try:
        with torch.device("meta"):
            module = model.build(image_shape, num_classes)
    except NotImplementedError:  # it reads tensors while it is built, as RegNet does to find its widths
        with torch.random.fork_rng(devices=[]):
            module = model.build(image_shape, num_classes)
    # One image through memory that nobody wrote is quicker than the meta device's forward, which loads a compiler.
    module = module.to_empty(device="cpu")
    for table in module.buffers():
        if not table.is_floating_point():
            table.zero_()  # an index that nobody wrote may point anywhere
    return module


def check(cell: CellConfig, facts: Facts) -> None:
    """Raises ``ValueError`` when the cell's pruner cannot remove so much of its model; says nothing without torch."""
    net = network(cell.model, facts.image_shape, facts.num_classes)
    if net is not None and prunes(cell):
        cell.pruner.check(net.structure, net.groups(*_rates(cell)))
    if net is not None and cell.coreset_ratio < 1:
        cell.selector.check(net.structure)


def _rates(cell: CellConfig) -> tuple[Scope, float, float | None]:
    return cell.scope, cell.prune_rate, cell.fc_prune_rate


def densities(cell: CellConfig, net: Network, position: float) -> dict[str, float]:
    """Foretold density of every pruned weight. Exact for uniform and ERK masks; a global one is taken as uniform."""
    if not prunes(cell):
        return {}
    erk = getattr(cell.pruner, "allocation", "global") == "erk"
    found: dict[str, float] = {}
    for part in net.groups(*_rates(cell)):
        density = density_at(part.prune_rate, position)
        found |= _erk(part, net, density) if erk else dict.fromkeys(part.layers, density)
    return found


def in_force(cell: CellConfig, net: Network, position: float) -> tuple[tuple[LayerMacs, ...], Mapping[str, float]]:
    """The foretold layers and their densities: a pruner that shrinks the network leaves smaller ones, dense.

    What a search for a rank will find is not known ahead: there the network is taken as it was built.
    """
    if not (prunes(cell) and cell.pruner.shrinks):
        return net.layers, densities(cell, net, position)
    return scaled(net.layers, _left(cell.pruner, _rates(cell), net, position)), {}


def scaled(layers: Sequence[LayerMacs], left: Mapping[str, float]) -> tuple[LayerMacs, ...]:
    """The layers of a network that this share of each weight is left of, by name."""
    return tuple(replace(layer, macs=round(layer.macs * left.get(layer.name or "", 1.0))) for layer in layers)


@lru_cache(maxsize=4096)
def _left(
    pruner: Pruner, rates: tuple[Scope, float, float | None], net: Network, position: float
) -> Mapping[str, float]:
    return pruner.foretold(net.structure, net.groups(*rates), position)


def _erk(part: Group, net: Network, density: float) -> dict[str, float]:
    from core.pruning.allocation import erk

    shapes = [net.structure.shapes[layer] for layer in part.layers]
    room = [math.prod(shape) for shape in shapes]
    kept = erk(shapes, count(density, sum(room)), room)
    return {layer: keep / full for layer, keep, full in zip(part.layers, kept, room, strict=True)}


def cost(cell: CellConfig, facts: Facts, epochs: Sequence[Epoch]) -> Cost:
    """The cost of the whole cell, ``epochs`` being its own."""
    trained, samples = sum(epoch.samples > 0 for epoch in epochs), sum(epoch.samples for epoch in epochs)
    net = network(cell.model, facts.image_shape, facts.num_classes)
    if net is None:
        return Cost(trained, samples, None, None, None)
    full = training_flops(net.layers, facts.train_size * cell.epochs).dense
    ledger = _ledger(cell, net, epochs, facts)
    return Cost(trained, samples, ledger.dense, ledger.sparse + ledger.selection, full)


def work(cell: CellConfig, facts: Facts, epochs: Sequence[Epoch], measurements: Measurements = TRAINING_ALONE) -> Work:
    """The cost of the cell up to each of ``epochs``, and the size of its checkpoint."""
    net = network(cell.model, facts.image_shape, facts.num_classes)
    per_sample = {position: _per_sample(cell, net, position) for position in {epoch.position for epoch in epochs}}
    flop = []
    for t, epoch in enumerate(epochs, start=1):
        forward, backward = _asked(cell, t, epoch, facts)
        looked_at = due_at(cell, t) * _looked_at(measurements.support_samples, epoch.samples, facts.train_size)
        both = epoch.samples + backward + looked_at
        evaluated = measurements.evaluates(t, cell.epochs) * (facts.val_size + facts.test_size)
        once = _scored(cell, t, epoch, facts) + forward - backward + evaluated
        trained, scored = per_sample[epoch.position]
        beside = 0.0 if net is None else _beside(cell, t, net, facts).dense
        flop.append(both * trained + once * scored + beside + _arithmetic(cell, t, net, facts))
    return Work(
        samples=tuple(accumulate((epoch.samples for epoch in epochs), initial=0)),
        steps=tuple(accumulate((epoch.steps for epoch in epochs), initial=0)),
        flop=tuple(accumulate(flop, initial=0.0)),
        bytes=_checkpoint_bytes(cell, net, facts),
    )


def _per_sample(cell: CellConfig, net: Network | None, position: float) -> tuple[float, float]:
    """FLOP that dense kernels execute to train on a sample, and to look at one."""
    if net is None:
        return 1.0, 0.0
    layers, _ = in_force(cell, net, position)
    return training_flops(layers, 1).dense, forward_flops(layers)


def _looked_at(support_samples: int, size: int, train_size: int) -> int:
    """Samples whose gradients a measurement of support takes: of the training set, of a coreset of ``size``, and as
    many at random.
    """
    full, coreset = min(support_samples, train_size), min(support_samples, size)
    left_out = (1 - full / train_size) * (1 - coreset / train_size) ** 2
    return round(train_size * (1 - left_out)) if support_samples else 0


def _checkpoint_bytes(cell: CellConfig, net: Network | None, facts: Facts) -> int:
    """Weights and momentum, masks and what the pruner learns, the coreset, what is preserved of it, and the history of
    every sample.
    """
    if net is None:
        return 0
    prunable = sum(math.prod(shape) for shape in net.structure.shapes.values()) if prunes(cell) else 0
    per_weight = 1 + 4 * cell.pruner.tensors_per_weight
    per_sample = 4 + 1 + 4 + 4 + 4 + 4 + 8 + 4 * cell.selector.tensors_per_sample
    kept = 4 * facts.num_classes * count(cell.coreset_ratio, facts.train_size) + 9 * facts.train_size
    preserved = kept if preservation_starts(cell) <= cell.epochs else 0
    return 8 * net.parameters + per_weight * prunable + per_sample * facts.train_size + preserved


def _ledger(cell: CellConfig, net: Network, epochs: Sequence[Epoch], facts: Facts) -> Ledger:
    """Epochs at one density together, as all but the gradual pruners have only one."""
    trained: dict[float, int] = defaultdict(int)
    with_dense_gradient: dict[float, int] = defaultdict(int)
    scored: dict[float, int] = defaultdict(int)
    for t, epoch in enumerate(epochs, start=1):
        trained[epoch.position] += epoch.samples
        with_dense_gradient[epoch.position] += _dense_gradient_samples(cell, epoch)
        # Whoever selects sees the mask of the epoch before, which is this one's own where masks are renewed at its end.
        before = t - 1 if cell.pruner.learns_forward else max(t - 2, 0)
        scored[epochs[before].position] += _scored(cell, t, epoch, facts)
    asked = [_asked(cell, t, epoch, facts) for t, epoch in enumerate(epochs, start=1)]
    ledger = calibration_flops(net.layers, sum(forward for forward, _ in asked), sum(backward for _, backward in asked))
    for t in range(1, len(epochs) + 1):
        chosen = _arithmetic(cell, t, net, facts)
        ledger += _beside(cell, t, net, facts) + Ledger(dense=chosen, selection=chosen)
    for position in trained:
        layers, density = in_force(cell, net, position)
        training = {} if prunes(cell) and cell.pruner.learns_forward else density
        ledger += training_flops(layers, trained[position], training, with_dense_gradient[position])
        ledger += scoring_flops(layers, scored[position], density)
    return ledger


@lru_cache(maxsize=256)
def _copy(selector: Selector, net: Network) -> Beside | None:
    return selector.beside(net.structure)


def _beside(cell: CellConfig, t: int, net: Network, facts: Facts) -> Ledger:
    """What the selection before epoch ``t`` trains beside the network, taken as that was built."""
    copy = _copy(cell.selector, net) if selects(cell, t) else None
    if copy is None:
        return Ledger()
    forward, backward = (copy.epochs + 1) * facts.train_size, copy.epochs * facts.train_size
    return calibration_flops(scaled(net.layers, copy.left), forward, backward)


def _arithmetic(cell: CellConfig, t: int, net: Network | None, facts: Facts) -> float:
    """What the selection before epoch ``t`` computes beside its passes, on the features of the network as built."""
    if net is None or not selects(cell, t):
        return 0.0
    size = count(cell.selector.share(cell.coreset_ratio, t / cell.epochs), facts.train_size)
    features = net.structure.shapes[net.structure.classifier][1]
    return cell.selector.arithmetic(Sizes(facts.train_size, size, facts.num_classes, features, facts.val_size))


def _asked(cell: CellConfig, t: int, epoch: Epoch, facts: Facts) -> tuple[int, int]:
    """Samples that the pruner sends forward and backward in epoch ``t`` beside training; in the first, at init too."""
    if not prunes(cell):
        return 0, 0
    sizes = {"calibration": min(CALIBRATION, facts.train_size), "validation": facts.val_size, "one": 1}
    parts = [(cell.pruner.passes_at_init(), int(t == 1)), (cell.pruner.passes_at_update(), epoch.updates)]
    forward = sum(passes.forward * sizes[passes.samples] * times for passes, times in parts)
    return forward, sum(passes.backward * sizes[passes.samples] * times for passes, times in parts)


def _dense_gradient_samples(cell: CellConfig, epoch: Epoch) -> int:
    demand = cell.pruner.dense_gradient if prunes(cell) else "never"
    if demand == "updates" and epoch.steps:
        return epoch.samples * epoch.updates // epoch.steps
    return epoch.samples if demand == "always" else 0


def _scored(cell: CellConfig, t: int, epoch: Epoch, facts: Facts) -> int:
    """Samples of the forward passes for selection and state recording before epoch ``t``."""
    chosen = selects(cell, t)
    taught = chosen and cell.selector.teaches
    recorded = t >= preservation_starts(cell) and switches_at(cell, t) and not taught
    needs = cell.selector.needs
    seen = facts.train_size + facts.val_size * ("validation" in needs)
    fused = facts.train_size * taught  # whose batch-norm statistics are measured anew
    return seen * (chosen and bool(needs & {"logits", "features"})) + epoch.samples * recorded + fused
