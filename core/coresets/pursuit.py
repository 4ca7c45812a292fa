"""Orthogonal matching pursuit with non-negative weights, on inner products only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEGLIGIBLE = 1e-7
"""What counts as zero among inner products, relative to the largest one with the target."""
JITTER = 1e-10
"""Added to a squared norm, relative: keeps linearly dependent vectors solvable when the ridge is 0."""


def pursue(target_N: Tensor, column: Callable[[int], Tensor], picks: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Greedily approximate a vector b by at most ``picks`` of N vectors g_i.

    ``target_N`` holds the products <g_i, b>, ``column(j)`` the products <g_i, g_j>, both float64. Each round picks the
    vector with the largest product with the residual, then solves min |sum w_j g_j - b|^2 + ridge |w|^2, w >= 0, over
    all that were picked. It ends early when no product is positive. Returns the vectors with a weight above 0, in the
    order picked, and their weights.
    """
    import torch

    columns = target_N.new_zeros(picks, len(target_N))
    solver = Solver(picks, target_N, NEGLIGIBLE * float(target_N.abs().max()))
    residual_N = target_N.clone()
    chosen: list[int] = []
    for k in range(picks):
        best = int(residual_N.argmax())
        # Negated, so that NaN ends it too.
        if not residual_N[best] > solver.tolerance:
            break
        chosen.append(best)
        columns[k] = column(best)
        weight = solver.add(columns[k, chosen], target_N[best], ridge)
        residual_N = torch.addmv(target_N, columns[: k + 1].T, weight, alpha=-1)
        residual_N[chosen] = -torch.inf
    index = torch.tensor(chosen, dtype=torch.int64, device=target_N.device)
    weight = solver.weight[: len(chosen)]
    return index[weight > 0], weight[weight > 0]


class Solver:
    """min w'Gw - 2c'w over w >= 0, for a problem that grows by one variable at a time (Lawson & Hanson 1974).

    ``inverse`` is that of G restricted to the variables in ``free``, with zeros elsewhere. A variable enters or leaves
    it by one symmetric rank-one update (the sweep operator), so a round costs O(k^2).
    """

    def __init__(self, size: int, like: Tensor, tolerance: float) -> None:
        self.gram, self.inverse = like.new_zeros(size, size), like.new_zeros(size, size)
        self.target, self.weight = like.new_zeros(size), like.new_zeros(size)
        self.free = like.new_zeros(size).bool()
        self.tolerance = tolerance
        self.size = 0

    def add(self, products: Tensor, target: Tensor, ridge: float) -> Tensor:
        """The weights of all variables after one more: its products with all, itself last, and with the target."""
        k = self.size
        self.gram[k, : k + 1] = self.gram[: k + 1, k] = products
        self.gram[k, k] += ridge + JITTER * products[k]
        self.target[k] = target
        self.size += 1
        self._solve()
        return self.weight[: self.size]

    def _solve(self) -> None:
        import torch

        n = self.size
        # In exact arithmetic the loop ends by itself; the bound only stops a cycle of rounding errors.
        for _ in range(3 * n):
            slack = self.target[:n] - self.gram[:n, :n] @ self.weight[:n]
            slack[self.free[:n]] = -torch.inf
            entering = int(slack.argmax())
            if not slack[entering] > self.tolerance:
                return
            self._enter(entering)
            self._descend()

    def _enter(self, i: int) -> None:
        n = self.size
        step = self.inverse[:n, :n] @ self.gram[:n, i]
        pivot = self.gram[i, i] - self.gram[:n, i] @ step
        step[i] = -1
        self.inverse[:n, :n].addr_(step, step / pivot)
        self.free[i] = True

    def _leave(self, i: int) -> None:
        n = self.size
        step = self.inverse[:n, i].clone()
        self.inverse[:n, :n].addr_(step, step / step[i], alpha=-1)
        # Exactly zero, not a rounding error away from it.
        self.inverse[i, :n] = self.inverse[:n, i] = self.weight[i] = 0
        self.free[i] = False

    def _descend(self) -> None:
        """Move towards the free variables' least squares, and stop at each variable that reaches 0 to let it leave."""
        import torch

        n = self.size
        while True:
            goal = self.inverse[:n, :n] @ self.target[:n]
            weight = self.weight[:n]
            fraction = (weight / (weight - goal)).where(self.free[:n] & (goal <= 0), torch.inf)
            first = int(fraction.argmin())
            if fraction[first].isinf():
                self.weight[:n] = goal
                return
            self.weight[:n] = weight + fraction[first] * (goal - weight)
            self._leave(first)
