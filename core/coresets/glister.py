"""GLISTER: samples whose gradients lower the validation loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.gradients import Gradients
from core.coresets.inputs import error_of, present
from core.coresets.ranking import highest, picked
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import Count, Positive, plugin
from core.rounding import count

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class Glister(Selector):
    """Greedily the samples whose last-layer gradients point most along that of the mean validation loss.

    In each of ``rounds`` an equal part is taken; then the last layer makes a step of ``step_size`` times the sum of all
    chosen gradients, and the validation gradient is that at the logits so moved, which is exact for that layer.
    Our readings: the step size, which the published code takes from its optimizer; ``balanced`` takes every class's
    quota by itself, each against the whole validation split.
    """

    name: Literal["glister"] = "glister"
    semantics_version: ClassVar[int] = 2
    rounds: Count = 15
    """An equal part of the coreset is taken in each."""
    step_size: Positive = 0.01
    """Of the step that the last layer makes between two rounds."""
    balanced: Balanced = False

    summary: ClassVar[str] = "samples whose gradients lower the validation loss most"
    source: ClassVar[str] = "Killamsetty et al. 2021, arXiv 2012.10630"
    cost: ClassVar[str] = (
        "a forward pass over the training and the validation set; a product with all gradients a round"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features", "validation"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        gradients, validation = Gradients.of(samples), present(samples.validation, "validation")

        def choose(index: Tensor, quota: int) -> Tensor:
            return self._greedy(gradients[index], validation, quota)

        return Coreset(picked(samples, size, choose, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        sides = sizes.classes if self.balanced else 1  # each quota goes against the whole validation split
        taken = sizes.chosen / 2  # on average over the rounds
        rows = sizes.samples + 2 * sides * sizes.validation + taken
        return 2.0 * self.rounds * rows * sizes.classes * sizes.features

    def _greedy(self, gradients: Gradients, validation: Samples, size: int) -> Tensor:
        import torch

        taken_N = torch.zeros(len(gradients), dtype=torch.bool, device=gradients.error_NC.device)
        for round_ in range(1, self.rounds + 1):
            part = count(round_ / self.rounds, size) - int(taken_N.sum())
            if part:
                slope_CD = slope(validation, self.step_size * gradients[taken_N].total())
                gain_N = gradients.onto(slope_CD).nan_to_num()
                taken_N[highest(gain_N.masked_fill(taken_N, -torch.inf), part)] = True
        return taken_N.nonzero().flatten()


def slope(validation: Samples, step_CD: Tensor) -> Tensor:
    """Gradient of the mean validation loss by the last layer, C x (D + 1), once ``step_CD`` was subtracted from it."""
    import torch

    features_VD = present(validation.features_ND, "features")
    moved_VC = present(validation.logits_NC, "logits") - torch.addmm(step_CD[:, -1], features_VD, step_CD[:, :-1].T)
    moved = Gradients(error_of(moved_VC, validation.labels_N), features_VD)
    return moved.total() / max(1, len(moved))
