"""Screening: weights whose contribution tells the classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Fraction, plugin
from core.pruning import scores
from core.pruning.allocation import Allocation
from core.pruning.gradual import Gradual
from core.pruning.pruner import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import State, View


@plugin
class Screening(Gradual):
    """Remove the weights of least ``share`` * rank(F) + (1 - share) * rank(abs(w)), along a cubic schedule.

    F is the one-way analysis of variance, across the classes of the calibration batch, of a weight's contribution: the
    weight times its input, averaged over all positions of that, whatever the layer's stride and padding. Both ranks are
    within the whole group, as shares of its weights, so that the two have one scale; equal values have equal rank.
    Our readings: this form of the contribution, of which F sees the input alone (it does not change with scale); the
    mixture; the gradual schedule of ``gmp``; one rate for all layers by default, as a global ranking removes whole
    layers whose inputs tell classes least apart. Where a layer's input is not visible (attention's output projection,
    which its parent applies), magnitude stands for both.
    """

    name: Literal["screening"] = "screening"
    allocation: Allocation = "uniform"
    share: Fraction = 0.5
    """Of the F statistic in the ranking; the rest is magnitude."""

    summary: ClassVar[str] = "least F statistic of the contribution across classes, mixed with magnitude"
    source: ClassVar[str] = "Wang et al. 2025, arXiv 2502.07189"
    cost: ClassVar[str] = "a forward pass over the calibration batch per update"

    @override
    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        probe = view.probe
        inputs = probe.inputs(view.weights)
        told = {layer: f_statistic(inputs_BD, probe.labels) for layer, inputs_BD in inputs.items()}
        mixed: dict[str, Tensor] = {}
        for group in view.groups:
            layers = group.layers
            magnitude = dict(zip(layers, scores.ranks([view.weights[layer].abs() for layer in layers]), strict=True))
            seen = [layer for layer in layers if layer in told]
            spread = dict(zip(seen, scores.ranks([_per_weight(told[i], view.weights[i]) for i in seen]), strict=True))
            for layer in layers:
                by_class = spread.get(layer, magnitude[layer])
                mixed[layer] = self.share * by_class + (1 - self.share) * magnitude[layer]
        return mixed

    @override
    def passes_at_update(self) -> Passes:
        return Passes(forward=1)


def f_statistic(values_BD: Tensor, labels_B: Tensor) -> Tensor:
    """One-way ANOVA of each column across the classes that are present, D values >= 0.

    Infinite where classes differ and no class varies; 0 where nothing varies, or with fewer than two classes or no more
    samples than classes.
    """
    import torch

    values = values_BD.detach().double()
    classes, index_B = torch.unique(labels_B, return_inverse=True)
    samples, groups = len(values), len(classes)
    if groups < 2 or samples <= groups:
        return torch.zeros_like(values[0])
    member_CB = torch.nn.functional.one_hot(index_B, groups).T.to(values)
    size_C = member_CB.sum(1, keepdim=True)
    mean_CD = member_CB @ values / size_C
    between = (size_C * (mean_CD - values.mean(0)).square()).sum(0) / (groups - 1)
    within = (values - mean_CD[index_B]).square().sum(0) / (samples - groups)
    return torch.where(between == 0, 0.0, between / within)


def _per_weight(value_D: Tensor, weight: Tensor) -> Tensor:
    """The value of the input that each weight reads; a grouped convolution's outputs read one part each."""
    parts = len(value_D) // weight.shape[1]
    by_output = value_D.view(parts, weight.shape[1]).repeat_interleave(weight.shape[0] // parts, 0)
    return by_output.view(*by_output.shape, *(1 for _ in weight.shape[2:])).expand(weight.shape)
