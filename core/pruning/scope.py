"""Which weights a pruner may remove, and which are pruned together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import nn

Scope: TypeAlias = Literal["all", "backbone", "classifier"]

ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Group:
    """Layers that are pruned together to one rate: all of them, or the backbone and the classifier apart."""

    layers: tuple[str, ...]
    prune_rate: float

    @property
    def density(self) -> float:
        """Share of the group's weights that stays, in (0, 1]; exact on the decimal written, 1 - 0.9 is 0.1."""
        return float(1 - Fraction(repr(float(self.prune_rate))))


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions, linear layers and attention projections, by parameter name.

    Never biases, normalisation or embeddings. A weight shared by two layers appears once.
    """
    from torch import nn

    chosen: set[int] = set()
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            chosen.add(id(module.weight))
        elif isinstance(module, nn.MultiheadAttention):
            # Absent ones are None, which is no parameter's identity.
            chosen |= {id(getattr(module, name)) for name in ATTENTION}
    return {name: weight for name, weight in model.named_parameters() if id(weight) in chosen}


def classifier(model: nn.Module) -> str:
    """The name of the classifier's weight: the last linear layer in module order.

    Raises ``ValueError`` when the model has no linear layer.
    """
    from torch import nn

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer; a model needs one as its classifier")
    return f"{linear[-1]}.weight".removeprefix(".")


def groups(
    layers: Mapping[str, Sequence[int]],
    classifier: str,
    scope: Scope,
    prune_rate: float,
    fc_prune_rate: float | None = None,
) -> tuple[Group, ...]:
    """The groups of ``layers`` (shapes by weight name) that are pruned, each to one rate.

    ``fc_prune_rate`` acts under scope ``all`` only: the classifier is then a group of its own.
    Raises ``ValueError`` when nothing is in scope.
    """
    if classifier not in layers:
        raise ValueError(f"classifier {classifier!r} is not among the prunable layers: {', '.join(layers)}")
    backbone = [layer for layer in layers if layer != classifier]
    if scope == "classifier":
        return _non_empty(scope, ([classifier], prune_rate))
    if scope == "backbone":
        return _non_empty(scope, (backbone, prune_rate))
    if fc_prune_rate is None:
        return _non_empty(scope, (layers, prune_rate))
    return _non_empty(scope, (backbone, prune_rate), ([classifier], fc_prune_rate))


def _non_empty(scope: Scope, *parts: tuple[Iterable[str], float]) -> tuple[Group, ...]:
    found = tuple(Group(tuple(layers), rate) for layers, rate in parts if tuple(layers))
    if not found:
        raise ValueError(f"scope {scope!r} holds no prunable layer; use scope 'all' or 'classifier'")
    return found
