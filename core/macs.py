"""Multiply-accumulates per layer, counted from the kernels that one forward pass executes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from core.flops import LayerMacs


def measure(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[LayerMacs, ...]:
    """The layers' MACs in order of execution, by one forward pass of one image; the model is left as it was.

    Raises ``ValueError`` for a layer with a weight matrix that it cannot count, rather than count it as free, and when
    the model cannot take such an image.
    """
    was_training = {module: module.training for module in model.modules()}
    counter = _Counter(model)
    image = torch.zeros((1, *image_shape), device=next(model.parameters()).device)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Fused attention hides its products; the plain one shows them.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.eval()(image)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        shape, reason = " x ".join(map(str, image_shape)), " ".join(str(error).split())
        way = "set data.image_size, or choose another model"
        raise ValueError(f"the network cannot take images of {shape} ({reason}): {way}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in was_training.items():
            module.training = training
    _check_all_counted(model, {name for name, _ in counter.found})
    return tuple(LayerMacs(name, macs, first=place == 0) for place, (name, macs) in enumerate(counter.found))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects (weight name, MACs) of every product that torch executes, by the formulas of its own counter.

    It sees kernels, not modules: groups and depthwise convolutions come in the shape of the weight, a weight that a
    parent applies without calling its layer is seen all the same, and a product of two activations has no weight.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and to be skipped by PyTorch's compiler takes loading it, a second or more."""
        return False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str | None, int]] = []
        # Kernels are given views of a weight, transposed or cut; what they have in common is the memory.
        self._names = {weight.untyped_storage().data_ptr(): name for name, weight in model.named_parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        output = func(*args, **(kwargs or {}))
        if formula is not None:
            self._add(self._weight(args), formula(*args, **(kwargs or {}), out_val=output) // 2)
        return output

    def _weight(self, args: tuple[Any, ...]) -> str | None:
        # A bias comes first in some kernels and last in others, but is no matrix.
        tensors = (value for value in args if isinstance(value, Tensor) and value.ndim > 1)
        return next((name for t in tensors if (name := self._names.get(t.untyped_storage().data_ptr()))), None)

    def _add(self, name: str | None, macs: int) -> None:
        """Uses of one weight in a row are one (projections of query, key and value)."""
        if self.found and self.found[-1][0] == name:
            macs += self.found.pop()[1]
        self.found.append((name, macs))


def _check_all_counted(model: nn.Module, counted: set[str | None]) -> None:
    for name, module in model.named_modules():
        matrices = [key for key, p in module.named_parameters(name, recurse=False) if p.ndim > 1]
        if matrices and not any(module.children()) and counted.isdisjoint(matrices):
            kind = type(module).__name__
            known = "convolutions, linear layers and attention"
            raise ValueError(f"cannot count the operations of {name or 'the model'} ({kind}): build it from {known}")
