"""Matching pursuit against naive oracles on explicit gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from core.coresets.gradmatch import GradMatch
from core.coresets.inputs import error_of
from core.coresets.pursuit import pursue
from core.coresets.samples import Samples
from tests.core.harness import samples

Matrix = NDArray[np.float64]


def solve(vectors: Matrix, target: Matrix, ridge: float) -> Matrix:
    """min |w V - b|^2 + ridge |w|^2, w >= 0, by scipy."""
    extended = np.hstack([vectors, np.sqrt(ridge) * np.eye(len(vectors))])
    weights, _ = nnls(extended.T, np.concatenate([target, np.zeros(len(vectors))]), maxiter=10_000)
    return np.asarray(weights)


def naive(vectors: Matrix, target: Matrix, picks: int, ridge: float) -> tuple[list[int], Matrix]:
    chosen: list[int] = []
    residual, weights = target, np.zeros(0)
    for _ in range(picks):
        products = vectors @ residual
        products[chosen] = -np.inf
        if products.max() <= 1e-7 * np.abs(vectors @ target).max():
            break
        chosen.append(int(products.argmax()))
        weights = solve(vectors[chosen], target, ridge)
        residual = target - weights @ vectors[chosen]
    return chosen, weights


def fast(vectors: Matrix, target: Matrix, picks: int, ridge: float) -> tuple[Matrix, Matrix]:
    v = torch.from_numpy(vectors)
    index, weight = pursue(v @ torch.from_numpy(target), lambda j: v @ v[j], picks, ridge)
    return index.numpy(), weight.numpy()


def objective(vectors: Matrix, target: Matrix, index: Matrix, weights: Matrix, ridge: float) -> float:
    return float(((weights @ vectors[index] - target) ** 2).sum() + ridge * (weights**2).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 12), st.sampled_from([0.0, 0.1, 5.0]))
def test_as_good_as_the_naive_pursuit(seed: int, n: int, dimensions: int, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dimensions)) + rng.normal(size=dimensions)
    target = vectors.sum(0)
    picks = max(1, n // 2)
    chosen, expected = naive(vectors, target, picks, ridge)
    index, weights = fast(vectors, target, picks, ridge)
    scale = float((target**2).sum())
    theirs = objective(vectors, target, np.array(chosen, dtype=int), expected, ridge)
    assert objective(vectors, target, index, weights, ridge) <= theirs + 1e-6 * scale
    assert set(index.tolist()) <= set(chosen)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_weights_solve_the_non_negative_problem(seed: int, n: int) -> None:
    """With every vector picked the answer is scipy's, and opposed vectors make many weights zero."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6))
    target = rng.normal(size=6)
    index, weights = fast(vectors, target, n, 0.3)
    full = np.zeros(n)
    full[index] = weights
    np.testing.assert_allclose(full, solve(vectors, target, 0.3), atol=1e-5)


def test_a_ridge_makes_the_second_pick_count() -> None:
    # (1, 0), (0, 1), (1, 1), b = (2, 2), ridge 1: products 2 2 4, the third first, w = 4 / 3.
    # Residual (2/3, 2/3): the first is next. [[3, 1], [1, 2]] w = (4, 2): w = (6/5, 2/5).
    index, weights = fast(np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([2.0, 2.0]), 2, 1.0)
    assert index.tolist() == [2, 0]
    assert weights.tolist() == pytest.approx([1.2, 0.4])


def test_a_weight_that_turns_negative_leaves_and_may_return() -> None:
    vectors = np.array([[1.0, 0.9], [1.0, 0.0], [0.0, 1.0]])
    index, weights = fast(vectors, np.array([1.0, 0.2]), 3, 0.0)
    assert objective(vectors, np.array([1.0, 0.2]), index, weights, 0.0) == pytest.approx(0, abs=1e-9)


def test_duplicates_without_a_ridge() -> None:
    index, weights = fast(np.ones((5, 3)), np.full(3, 5.0), 5, 0.0)
    assert index.tolist() == [0]
    assert weights.tolist() == pytest.approx([5.0])


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_factored_gradients_are_the_explicit_ones(ridge: float) -> None:
    """GradMatch on factors equals the naive pursuit on the N x C(D+1) matrix that it never builds."""
    data = samples(n=40, num_classes=3)
    explicit = explicit_gradients(data)
    coreset = GradMatch(ridge=ridge).select(data, size=9, progress=0.5, rng=torch.Generator().manual_seed(0))
    assert coreset.weight_M is not None
    for label in range(3):
        own = explicit[data.labels_N == label].numpy()
        chosen = data.labels_N[coreset.index_M] == label
        scaled = ridge * float((own**2).sum(1).mean())
        index, weights = naive(own, own.sum(0), int(chosen.sum()), scaled)
        rows = (data.labels_N == label).nonzero().flatten()[index]
        assert sorted(rows.tolist()) == coreset.index_M[chosen].tolist()
        order = rows.sort().indices.numpy()
        ratio = coreset.weight_M[chosen].double().numpy() / weights[order]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_batches_are_matched_by_their_summed_gradients() -> None:
    """``per: batch`` picks and weighs as the naive pursuit does on explicit batch gradients, without a ridge."""
    data = samples(n=40, num_classes=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    batches = order.split(4)
    sums = torch.stack([explicit_gradients(data)[batch].sum(0) for batch in batches]).numpy()
    chosen, weights = naive(sums, sums.sum(0), 4, 0.0)
    selector = GradMatch(per="batch", batch_size=4)
    coreset = selector.select(data, size=16, progress=0.5, rng=torch.Generator().manual_seed(0))
    assert coreset.weight_M is not None
    assert sorted(torch.cat([batches[j] for j in chosen]).tolist()) == coreset.index_M.tolist()
    weight_N = torch.zeros(40).index_put((coreset.index_M,), coreset.weight_M)
    ratio = np.array([float(weight_N[batches[j][0]]) for j in chosen]) / weights
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def explicit_gradients(data: Samples) -> Tensor:
    """Every sample's last-layer gradient (N x C(D+1)), float64."""
    assert data.logits_NC is not None
    assert data.features_ND is not None
    error_NC = error_of(data.logits_NC, data.labels_N).double()
    extended = torch.cat([data.features_ND.double(), torch.ones(len(error_NC), 1, dtype=torch.float64)], 1)
    return torch.einsum("nc,nd->ncd", error_NC, extended).flatten(1)
