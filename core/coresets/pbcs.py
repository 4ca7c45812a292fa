"""PBCS: learn the probability that each sample is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, Strict
from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import highest
from core.coresets.samples import Coreset, Need, Samples, Selector, Sizes
from core.plugin import Count, Positive, plugin
from core.projection import project

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Several = Annotated[int, Strict(), Field(ge=2)]


@plugin
class PBCS(Selector):
    """Probabilities s over the samples that lower the loss on all of what is trained on a draw from them.

    Each of ``rounds`` draws ``draws`` coresets from Bernoulli(s), trains on each, and moves s against the policy
    gradient (REINFORCE), projected onto 0 <= s <= 1, sum(s) = the size. The coreset is the most probable samples. s is
    the state: the next selection goes on from it.
    Our readings: what is trained is the last layer alone, as a ridge regression of the labels on the current features,
    so that the inner problem has a solution in closed form; the gradient is the natural one, m - s for a draw m, times
    the loss in standard deviations of its round, as the plain one, of the order 1 / s, leaves the range at small
    coresets; the number of rounds and the rate.
    """

    name: Literal["pbcs"] = "pbcs"
    draws: Several = 5
    """Coresets drawn, and trained on, in each round."""
    rounds: Count = 20
    """Steps of the probabilities in one selection."""
    learning_rate: Positive = 1.0
    """Of the probabilities."""
    ridge: Positive = 0.01
    """Of the regression, times the mean square of the features."""

    summary: ClassVar[str] = "most probable samples; the probabilities are learnt from last layers trained on draws"
    source: ClassVar[str] = "Zhou et al. 2022, ICML (probabilistic bilevel coreset selection)"
    cost: ClassVar[str] = "a forward pass over the training set; draws x rounds last layers, of size x D^2 each"
    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    tensors_per_sample: ClassVar[int] = 1

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        inner = Regression.of(present(samples.features_ND, "features"), samples, self.ridge * size)
        total = len(samples.labels_N)
        likely_N = torch.full((total,), size / total, dtype=torch.float64, device=samples.labels_N.device)
        if "likely" in samples.state:
            likely_N = samples.state["likely"].double()
        for _ in range(self.rounds):
            (likely_N,) = project([likely_N], size, spend_all=True)
            draw_KN = torch.rand(self.draws, total, generator=rng, dtype=torch.float64).to(likely_N.device)
            drawn_KN = draw_KN < likely_N
            loss_K = torch.stack([inner.loss(drawn_N) for drawn_N in drawn_KN])
            likely_N = likely_N - self.learning_rate * direction(likely_N, drawn_KN.double(), loss_K)
        (likely_N,) = project([likely_N], size, spend_all=True)
        return Coreset(highest(likely_N, size), state={"likely": likely_N.float()})

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        width = sizes.features + 1
        products = 2.0 * width * (width + sizes.classes)
        solved = width**3 / 3 + 4 * width**2 * sizes.classes
        return sizes.samples * products + self.rounds * self.draws * (sizes.chosen * products + solved)


def direction(likely_N: Tensor, drawn_KN: Tensor, loss_K: Tensor) -> Tensor:
    """The natural policy gradient of the expected loss, in standard deviations of the losses; 0 where alike."""
    above_K = (loss_K - loss_K.mean()) / loss_K.std(correction=0)
    above_K = above_K.nan_to_num(0, 0, 0)
    return above_K @ (drawn_KN - likely_N) / len(loss_K)


@dataclass(frozen=True)
class Regression:
    """Ridge regression of one-hot labels on [h, 1], of any subset of the samples, and its loss on all of them.

    ``gram_DD`` and ``products_DC`` are those of all: a loss costs no pass over the samples.
    """

    features_ND: Tensor
    labels_NC: Tensor
    gram_DD: Tensor
    products_DC: Tensor
    ridge: float

    @staticmethod
    def of(features_ND: Tensor, samples: Samples, ridge: float) -> Regression:
        """In double precision; ``ridge`` counts in mean squares of the features. A feature that is not finite is 0."""
        from torch.nn.functional import one_hot, pad

        features_ND = pad(features_ND.double().nan_to_num(0, 0, 0), (0, 1), value=1.0)
        labels_NC = one_hot(samples.labels_N, samples.num_classes).double()
        gram_DD = features_ND.T @ features_ND
        scale = float(gram_DD.diagonal().mean()) / len(features_ND)
        return Regression(features_ND, labels_NC, gram_DD, features_ND.T @ labels_NC, ridge * scale)

    def loss(self, kept_N: Tensor) -> Tensor:
        """The mean squared error on all samples of the regression on those that are kept, per sample and summed over C.

        Without any, it predicts 0, and the loss is 1.
        """
        import torch

        own_MD, own_MC = self.features_ND[kept_N], self.labels_NC[kept_N]
        damped_DD = own_MD.T @ own_MD
        damped_DD.diagonal().add_(self.ridge)
        factor_DD, _ = torch.linalg.cholesky_ex(damped_DD)
        weight_DC = torch.cholesky_solve(own_MD.T @ own_MC, factor_DD)
        explained = (weight_DC * (2 * self.products_DC - self.gram_DD @ weight_DC)).sum()
        return 1 - explained / len(self.features_ND)
