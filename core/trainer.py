"""SWaST's training loop [arXiv 2511.09901, Algorithm 1], as an iterator of events.

    X <- D;  D~ <- {}
    for t = 1 .. T:
        if t > K and t mod R == 0:
            X <- S(D, theta, alpha)                    # _select
            D~ <- {(x, f_theta(x)) : x in X}           # _record
        for each batch B of X:                         # _train
            L = CE(B) + lambda * KL term over B        # _loss
            g = grad L
            theta <- P(theta, g)                       # _prune
            theta <- SGD step

The trainer writes nothing, prints nothing and knows no tracker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import macs, rng, schedule
from core.config import CellConfig, canonical, first_selection, preservation_starts
from core.copies import Copies, fuse
from core.coresets import SELECTORS
from core.coresets.samples import Copy, Coreset, Samples, Sizes, check_chosen
from core.costs import DENSE, Meter
from core.data.augment import AUGMENTATIONS
from core.data.bundle import Bundle, Split
from core.events import (
    CoresetSelected,
    Diverged,
    EpochEnded,
    Evaluation,
    Event,
    LayerChange,
    MaskChanged,
    StateRecorded,
    SupportMeasured,
)
from core.history import History, entropy, margin
from core.intervention import NOTHING, Intervention
from core.masking import Masking
from core.measurements import TRAINING_ALONE, Measurements
from core.network import Network, build
from core.preservation import Preserved
from core.probe import NetworkProbe
from core.pruning.cuts import Surgery
from core.pruning.pruner import CALIBRATION, Moment, View
from core.rounding import count
from core.state import RunState, StateError, take, under
from core.steps import batches_of, sgd
from core.support import measure
from core.surgery import momentum, read, recorded

SEMANTICS_VERSION = 5
"""Raised whenever the same configuration trains differently; part of the cache key."""


@dataclass(frozen=True)
class Pass:
    """What one epoch of training left behind."""

    trained: int
    loss: float | None = None
    preservation: float | None = None
    noisy_clean: float | None = None
    seconds_prune: float = 0.0


@dataclass(frozen=True)
class Step:
    """What one batch's forward and backward pass left behind, still on the device."""

    loss_B: Tensor
    logits_BC: Tensor
    penalty: Tensor | None


class Trainer:
    """One run. ``events()`` advances it; ``state()`` and ``restore()`` fork or resume it at epoch ends."""

    def __init__(
        self,
        cell: CellConfig,
        bundle: Bundle,
        device: str | torch.device = "cpu",
        intervention: Intervention = NOTHING,
        measurements: Measurements = TRAINING_ALONE,
    ) -> None:
        self.cell = canonical(cell)
        self.intervention = intervention
        self.measurements = measurements
        self.bundle = bundle
        self.device = torch.device(device)
        self._build()
        self.costs = Meter(macs.measure(self.network.module, bundle.image_shape))
        self.history = History.empty(len(bundle.train), self.device)
        self.index_M = torch.arange(len(bundle.train), device=self.device)
        self.weight_N: Tensor | None = None
        self.selector_state: Mapping[str, Tensor] = {}
        self.preserved: Preserved | None = None
        self.epoch = 0
        self.step = 0
        self.diverged = False

    def _build(self) -> None:
        self.network = Network(build(self.cell, self.bundle, self.device), self.bundle)
        self.optimizer = sgd(self.cell, self.network.module)
        self.masking = Masking(self.cell, self.network, self.optimizer)

    def events(self, until: int | None = None) -> Iterator[Event]:
        """Train up to and including epoch ``until`` (the last one by default) and say what happens."""
        last = self.cell.epochs if until is None else min(until, self.cell.epochs)
        if self.epoch == 0:
            yield from self._init_mask()
        while self.epoch < last and not self.diverged:
            yield from self._epoch(self.epoch + 1)

    def _epoch(self, epoch: int) -> Iterator[Event]:
        started = time.perf_counter()
        switch = schedule.switches_at(self.cell, epoch) and self.intervention.selects(epoch)
        if switch:
            selected, copy = self._select(epoch)
            yield selected
            if epoch >= preservation_starts(self.cell):
                yield self._record(epoch, copy)
        selecting = time.perf_counter() - started
        if self.measurements.support_samples and switch and schedule.due_at(self.cell, epoch):
            yield self._measure_support(epoch)
        result = yield from self._train(epoch)
        self.epoch = epoch
        ended = self._ended(result, selecting, started)
        yield ended
        infinite = _not_finite(ended)
        if infinite:
            self.diverged = True
            yield Diverged(epoch, f"the {infinite} of epoch {epoch}")

    def _select(self, epoch: int) -> tuple[CoresetSelected, Copy | None]:
        started = time.perf_counter()
        selector = self.cell.selector if schedule.selects(self.cell, epoch) else SELECTORS["random"]()
        progress = epoch / self.cell.epochs
        size = count(self.cell.selector.share(self.cell.coreset_ratio, progress), len(self.bundle.train))
        coreset = selector.select(
            self._samples(selector.needs),
            size=size,
            progress=progress,
            rng=rng.generator(self.cell.seed, "select", epoch),
        )
        self.costs.choose(selector.arithmetic(self._sizes(size)))
        check_chosen(coreset.index_M, size, len(self.bundle.train), selector)
        before, self.index_M = self.index_M, coreset.index_M
        self.weight_N, self.selector_state = self._spread(coreset), coreset.state
        if coreset.copy is not None:
            self._fuse(coreset.copy, epoch)
        shared = int(torch.isin(self.index_M, before).sum())
        flipped = self.bundle.flipped_N
        selected = CoresetSelected(
            epoch=epoch,
            size=len(self.index_M),
            removed=len(before) - shared,
            added=len(self.index_M) - shared,
            noise_ratio=float(flipped[self.index_M].float().mean()) if bool(flipped.any()) else None,
            seconds=time.perf_counter() - started,
            due=schedule.due_at(self.cell, epoch),
        )
        return selected, coreset.copy

    def _fuse(self, copy: Copy, epoch: int) -> None:
        """The statistics that come along are those of a smaller network, without the mask: they are measured anew."""
        fuse(self.network.module, copy)
        self.masking.clear()
        train, draws = self.bundle.train, rng.generator(self.cell.seed, "select", epoch, 1)
        order_N = torch.randperm(len(train), generator=draws).to(self.device)
        batches = batches_of(order_N, self.cell.batch_size)
        self.network.measure_statistics(train.images, batches, self.masking.evaluated())
        self.costs.score(len(train), self.masking.density_by_layer)

    def _sizes(self, chosen: int) -> Sizes:
        train, val = self.bundle.train, self.bundle.val
        return Sizes(len(train), chosen, self.bundle.num_classes, self.network.features, len(val))

    def _measure_support(self, epoch: int) -> SupportMeasured:
        started = time.perf_counter()
        support = measure(
            self.network,
            self.bundle.train,
            self.index_M,
            self.masking.mask,
            self.masking.evaluated(),
            num_classes=self.bundle.num_classes,
            samples=self.measurements.support_samples,
            rng=rng.generator(self.cell.seed, "support", epoch),
        )
        self.costs.measure(support.samples)
        return SupportMeasured(epoch, support, time.perf_counter() - started)

    def _samples(self, needs: frozenset[str]) -> Samples:
        samples, past = replace(self._seen(self.bundle.train, needs), state=self.selector_state), self.history
        if "network" in needs:
            effective = dict(self.masking.evaluated() or {})
            apart = Copies(self.cell, self.epoch + 1, self.bundle, self.network.module, effective, self.costs.beside)
            samples = replace(samples, apart=apart)
        if "validation" in needs:
            samples = replace(samples, validation=self._seen(self.bundle.val, needs))
        if "coreset" in needs:
            kept_N = torch.zeros(len(self.bundle.train), dtype=torch.bool, device=self.device)
            samples = replace(samples, kept_N=kept_N.index_fill(0, self.index_M, value=True))
        if "history" not in needs:
            return samples
        return replace(
            samples,
            loss_N=past.loss_N,
            correct_N=past.correct_N,
            forgotten_N=past.forgotten_N,
            margin_N=past.mean_margin(),
            entropy_N=past.entropy_N,
        )

    def _seen(self, split: Split, needs: frozenset[str]) -> Samples:
        """A split's labels and, where they are needed, what the current model makes of its samples."""
        logits = features = None
        if needs & {"logits", "features"}:
            self.costs.score(len(split), self.masking.density_by_layer)
            logits, features = self.network.logits_and_features(split.images, self.masking.evaluated())
        return Samples(
            labels_N=split.labels,
            num_classes=self.bundle.num_classes,
            logits_NC=logits if "logits" in needs else None,
            features_ND=features if "features" in needs else None,
        )

    def _spread(self, coreset: Coreset) -> Tensor | None:
        if coreset.weight_M is None:
            return None
        weight_N = torch.zeros(len(self.bundle.train), device=self.device)
        return weight_N.index_put((coreset.index_M,), coreset.weight_M.to(weight_N))

    def _record(self, epoch: int, copy: Copy | None) -> StateRecorded:
        train, index_M = self.bundle.train, self.index_M
        if copy is not None:
            logits_MC = copy.logits_NC[index_M]
        else:
            self.costs.score(len(index_M), self.masking.density_by_layer)
            logits_MC = self.network.logits(train.images[index_M], self.masking.evaluated())
        self.preserved = self.cell.preservation.record(index_M, train.labels[index_M], logits_MC, len(train))
        return StateRecorded(epoch, len(index_M))

    def _train(self, epoch: int) -> Generator[Event, None, Pass]:
        if schedule.phase(self.cell, epoch) == "idle":
            return Pass(0)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(self.cell, epoch)
        order_M = self._order(epoch)
        batches = batches_of(order_M, self.cell.batch_size)
        steps, pruning = [], 0.0
        for position, index_B in enumerate(batches):
            moment = self._moment(epoch, position, len(batches))
            steps.append(self._gradients(index_B, moment))
            started = time.perf_counter()
            change = self._prune(moment, len(index_B))
            pruning += time.perf_counter() - started
            self.optimizer.step()
            self.step += 1
            if change is not None:
                yield change
        return self._passed(order_M, steps, pruning)

    def _order(self, epoch: int) -> Tensor:
        generator = rng.generator(self.intervention.seed(self.cell.seed, epoch), "order", epoch)
        return self.index_M[torch.randperm(len(self.index_M), generator=generator).to(self.device)]

    def _moment(self, epoch: int, position: int, steps: int) -> Moment:
        return Moment(
            epoch=epoch,
            epochs=self.cell.epochs,
            step=self.step,
            step_in_epoch=position,
            steps_in_epoch=steps,
            select_every=self.cell.select_every,
            first_selection=first_selection(self.cell),
        )

    def _gradients(self, index_B: Tensor, moment: Moment) -> Step:
        train = self.bundle.train
        images, labels = train.images[index_B], train.labels[index_B]
        if self.cell.augmentation != "none":
            images = AUGMENTATIONS[self.cell.augmentation](images, self._generator("augment", moment))
        weights = self.masking.trained(moment, lambda: self._generator("prune", moment))
        with self.network.drawing(lambda: self._address("dropout", moment)):
            logits = self.network.forward(self.network.inputs(images), weights)
        loss_B = F.cross_entropy(logits, labels, reduction="none")
        penalty = None if self.preserved is None else self.cell.preservation.penalty(self.preserved, index_B, logits)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._loss(loss_B, index_B, penalty))
        return Step(loss_B.detach(), logits.detach(), None if penalty is None else penalty.detach())

    def _loss(self, loss_B: Tensor, index_B: Tensor, penalty: Tensor | None) -> Tensor:
        if self.weight_N is None:
            loss = loss_B.mean()
        else:
            weight_B = self.weight_N[index_B]
            loss = (weight_B * loss_B).sum() / weight_B.sum().clamp_min(torch.finfo(weight_B.dtype).tiny)
        return loss if penalty is None else loss + self.cell.preservation_weight * penalty

    def _prune(self, moment: Moment, batch: int) -> MaskChanged | None:
        if not self.masking.active:
            self.costs.train(batch)
            return None
        # What learns its mask in the forward pass multiplies by every weight.
        density = DENSE if self.cell.pruner.learns_forward else self.masking.density_by_layer
        if not self.intervention.prunes(moment.epoch):
            self.masking.hold()
            self.costs.train(batch, density)
            return None
        surgery = self.network.surgery
        layers = self.masking.step(self._view(moment))
        self.costs.train(batch, density, updated=layers is not None, demand=self.cell.pruner.dense_gradient)
        self._count_again_after(surgery)
        return _mask_changed(moment, layers) if layers else None

    def _init_mask(self) -> Iterator[Event]:
        if self.masking.active:
            moment = self._moment(0, 0, 1)
            surgery = self.network.surgery
            layers = self.masking.init(self._view(moment))
            self._count_again_after(surgery)
            if layers:
                yield _mask_changed(moment, layers)

    def _count_again_after(self, surgery: Surgery) -> None:
        """What a pass costs, where the network is no longer the one after ``surgery``."""
        if self.network.surgery is not surgery:
            self.costs.reshaped(macs.measure(self.network.module, self.bundle.image_shape))

    def _view(self, moment: Moment) -> View:
        return View(
            moment=moment,
            groups=self.masking.groups,
            weights=self.masking.stored(),
            gradients=self.masking.gradients(),
            mask=self.masking.mask,
            probe=NetworkProbe(
                self.network, self._calibration_batch, self.bundle.val, self.costs.calibrate, self.cell.seed
            ),
            generator=lambda: self._generator("prune", moment),
        )

    def _generator(self, stream: rng.Stream, moment: Moment) -> torch.Generator:
        seed = self.intervention.seed(self.cell.seed, moment.epoch)
        return rng.generator(seed, stream, moment.epoch, moment.step_in_epoch)

    def _address(self, stream: rng.Stream, moment: Moment) -> int:
        seed = self.intervention.seed(self.cell.seed, moment.epoch)
        return rng.address(seed, stream, moment.epoch, moment.step_in_epoch)

    def _calibration_batch(self) -> Split:
        """One fixed draw from the training set, whatever the coreset."""
        train = self.bundle.train
        chosen = torch.randperm(len(train), generator=rng.generator(self.cell.seed, "calibration"))[:CALIBRATION]
        index_B = chosen.to(self.device)
        return Split(train.images[index_B], train.labels[index_B])

    def _momentum(self, weight: nn.Parameter) -> Tensor | None:
        return momentum(self.optimizer, weight)

    def _passed(self, order_M: Tensor, steps: Sequence[Step], pruning: float) -> Pass:
        loss_M, logits_MC = torch.cat([s.loss_B for s in steps]), torch.cat([s.logits_BC for s in steps])
        labels_M = self.bundle.train.labels[order_M]
        correct_M = logits_MC.argmax(1) == labels_M
        self.history = self.history.after(order_M, loss_M, correct_M, margin(logits_MC, labels_M), entropy(logits_MC))
        penalties = [step.penalty for step in steps if step.penalty is not None]
        return Pass(
            trained=len(order_M),
            loss=loss_M.mean().item(),
            preservation=torch.stack(penalties).mean().item() if penalties else None,
            noisy_clean=_noisy_clean(loss_M, self.bundle.flipped_N[order_M]),
            seconds_prune=pruning,
        )

    def _ended(self, result: Pass, selecting: float, started: float) -> EpochEnded:
        val = test = None
        ends = result.loss is not None and not math.isfinite(result.loss)
        if ends or self.measurements.evaluates(self.epoch, self.cell.epochs):
            val, test = self._evaluate(self.bundle.val), self._evaluate(self.bundle.test)
        return EpochEnded(
            epoch=self.epoch,
            trained=result.trained,
            lr=schedule.learning_rate(self.cell, self.epoch),
            loss_train=result.loss,
            loss_preservation=result.preservation,
            noisy_clean_loss=result.noisy_clean,
            density=self.masking.density,
            dead_layers=self.masking.dead_layers,
            test=test,
            val=val,
            cost=self.costs.take(),
            full_cost=self.costs.full_epoch(len(self.bundle.train)),
            seconds_prune=result.seconds_prune,
            seconds_select=selecting,
            seconds=time.perf_counter() - started,
        )

    def _evaluate(self, split: Split) -> Evaluation | None:
        """The effective model on a split; ``None`` where that is empty."""
        if not len(split):
            return None
        self.costs.evaluate(len(split))
        return self.network.evaluate(split, self.bundle.num_classes, self.masking.evaluated())

    def state(self) -> RunState:
        """The run after its last completed epoch. The tensors are views: dump or copy them before training on."""
        module = self.network.module
        names = dict(module.named_parameters())
        buffers = {name: self._momentum(weight) for name, weight in names.items()}
        tensors = {
            **under("model", module.state_dict()),
            **under("momentum", {name: buffer for name, buffer in buffers.items() if buffer is not None}),
            **under("mask", self.masking.mask),
            **under("pruner", self.masking.state),
            **under("history", self.history.tensors()),
            **under("coreset", {"index": self.index_M}),
            **under("selector", self.selector_state),
            **under("surgery", recorded(self.network.surgery)),
        }
        if self.weight_N is not None:
            tensors |= under("coreset", {"weight": self.weight_N})
        if self.preserved is not None:
            tensors |= under("preserved", self.preserved.tensors())
        # Of no cell: those that share their training up to here have equal states, byte by byte.
        meta = {"epoch": self.epoch, "step": self.step, "diverged": self.diverged, "data": self.bundle.digest}
        return RunState(tensors, meta)

    def restore(self, state: RunState) -> None:
        """Take over a state of this cell, or of another one up to where the two part.

        Raises ``StateError`` when the state is of another data set or another model.
        """
        if state.meta["data"] != self.bundle.digest:
            raise StateError(
                f"a checkpoint of data set {state.meta['data'][:12]}; this run has {self.bundle.digest[:12]}"
            )
        state = RunState({name: tensor.to(self.device) for name, tensor in state.tensors.items()}, state.meta)
        try:
            self._reshape(read(take(state, "surgery")))
            self.network.module.load_state_dict(take(state, "model"))
        except RuntimeError as error:
            raise StateError(f"a checkpoint of another model than {self.cell.model.name}: {error}") from error
        buffers = take(state, "momentum")
        for name, weight in self.network.module.named_parameters():
            buffer = buffers.get(name)
            self.optimizer.state[weight] = {} if buffer is None else {"momentum_buffer": _laid_out_like(weight, buffer)}
        self.masking.restore(take(state, "mask"), take(state, "pruner"))
        self.history = History(**take(state, "history"))
        coreset, preserved = take(state, "coreset"), take(state, "preserved")
        self.index_M, self.weight_N = coreset["index"], coreset.get("weight")
        self.selector_state = take(state, "selector")
        self.preserved = Preserved(**preserved) if preserved else None
        self.epoch, self.step = state.meta["epoch"], state.meta["step"]
        self.diverged = state.meta["diverged"]

    def _reshape(self, surgery: Surgery) -> None:
        """Make a new network into the one that a checkpoint was written of."""
        before = self.network.surgery
        if not before.empty:
            self._build()
        if not surgery.empty:
            self.masking.reshape(surgery)
        self._count_again_after(before)


def _laid_out_like(weight: Tensor, values: Tensor) -> Tensor:
    """A copy with the weight's memory layout, which the fused optimizer relies on."""
    return torch.empty_like(weight, requires_grad=False).copy_(values)


def _mask_changed(moment: Moment, layers: Mapping[str, LayerChange]) -> MaskChanged:
    return MaskChanged(
        epoch=moment.epoch,
        step=moment.step,
        removed=sum(layer.removed for layer in layers.values()),
        grown=sum(layer.grown for layer in layers.values()),
        layers=dict(layers),
    )


def _not_finite(ended: EpochEnded) -> str:
    """Which loss is not a finite number, and what it is; empty when all are."""
    val, test = (None if split is None else split.loss for split in (ended.val, ended.test))
    losses = {"training": ended.loss_train, "validation": val, "test": test}
    found = ((name, loss) for name, loss in losses.items() if loss is not None and not math.isfinite(loss))
    return next((f"{name} loss is {loss}" for name, loss in found), "")


def _noisy_clean(loss_M: Tensor, flipped_M: Tensor) -> float | None:
    if not bool(flipped_M.any()) or bool(flipped_M.all()):
        return None
    return (loss_M[flipped_M].mean() / loss_M[~flipped_M].mean()).item()
