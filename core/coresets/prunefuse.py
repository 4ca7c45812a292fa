"""PruneFuse: samples chosen by a smaller copy of the network, whose weights then go back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Beside, Coreset, Need, Samples, Selector, Sizes
from core.coresets.uncertainty import Kind, uncertainty
from core.plugin import Count, Flag, PruneRate, plugin
from core.pruning.channels import Channels
from core.pruning.scope import groups

if TYPE_CHECKING:
    import torch

    from core.pruning.couplings import Structure
    from core.pruning.scope import Group

CHANNELS = Channels(importance="l1", allocation="uniform")


@plugin
class PruneFuse(Selector):
    """The most uncertain predictions of a copy without ``rate`` of its weights, channels of least l1 norm.

    The copy is trained for ``epochs`` on all samples. Where ``fuse``, its weights then take the place in the network
    that they were cut from, and preservation, where the cell has one, holds the network to the copy's predictions in
    place of its own: the source's distillation.
    Our readings: the copy is cut anew from the network as it stands at every selection, where the source prunes an
    untrained network once; it is trained as the network is at that time, without augmentation; the criterion is
    uncertainty, as in the source's predecessor; momentum stays; batch-norm statistics are measured anew, as those of
    the copy are of another network, and under a mask not even nearly right; a network that is small already is cut as
    far as it can be.
    """

    name: Literal["prunefuse"] = "prunefuse"
    rate: PruneRate = 0.5
    """Share of the network's weights that its copy is without."""
    epochs: Count = 2
    """Over the training set, that the copy is trained for at every selection."""
    kind: Kind = "margin"
    """Of the uncertainty: the predicted class's probability, entropy, or the gap to the next."""
    fuse: Flag = True
    """Whether the copy's weights and predictions come back to the network, or only the choice."""
    balanced: Balanced = False

    semantics_version: ClassVar[int] = 2
    summary: ClassVar[str] = "most uncertain to a smaller copy trained beside, whose weights go back into the network"
    source: ClassVar[str] = "arXiv 2603.26138"
    cost: ClassVar[str] = "epochs of training and a pass over the training set with the smaller copy; a pass when fused"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})

    @property
    @override
    def teaches(self) -> bool:
        return self.fuse

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        apart = present(samples.apart, "network")
        structure = apart.structure()
        surgery = CHANNELS.once(structure, self._groups(structure))
        copy = apart.trained(surgery, self.epochs, rng)
        score_N = uncertainty(copy.logits_NC, self.kind).nan_to_num(0)
        index_M = best(samples, score_N, size, balanced=self.balanced)
        return Coreset(index_M, copy=copy if self.teaches else None)

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 1.0 * sizes.samples * sizes.classes

    @override
    def check(self, structure: Structure) -> None:
        try:
            CHANNELS.check(structure, self._groups(structure))
        except ValueError as error:
            raise ValueError(f"the copy of selector prunefuse: {error}") from error

    @override
    def beside(self, structure: Structure) -> Beside:
        return Beside(CHANNELS.foretold(structure, self._groups(structure), 1.0), self.epochs)

    def _groups(self, structure: Structure) -> tuple[Group, ...]:
        return groups(structure.shapes, structure.classifier, "all", self.rate)
