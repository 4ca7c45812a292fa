"""Which weights are pruned, and together with which."""

from __future__ import annotations

import pytest
from torch import nn

from core.pruning.scope import Group, classifier, groups, prunable
from tests.core.harness import network

LAYERS = {"conv.weight": (4, 3, 3, 3), "hidden.weight": (8, 4), "head.weight": (2, 8)}
BACKBONE, HEAD = ("conv.weight", "hidden.weight"), ("head.weight",)


def test_scopes() -> None:
    assert groups(LAYERS, "head.weight", "all", 0.9) == (Group((*BACKBONE, *HEAD), 0.9),)
    assert groups(LAYERS, "head.weight", "all", 0.5, 0.9) == (Group(BACKBONE, 0.5), Group(HEAD, 0.9))
    assert groups(LAYERS, "head.weight", "backbone", 0.9) == (Group(BACKBONE, 0.9),)
    assert groups(LAYERS, "head.weight", "classifier", 0.9) == (Group(HEAD, 0.9),)


def test_a_lone_classifier() -> None:
    only = {"head.weight": (2, 8)}
    assert groups(only, "head.weight", "all", 0.5, 0.9) == (Group(HEAD, 0.9),)
    with pytest.raises(ValueError, match="'backbone' holds no prunable layer"):
        groups(only, "head.weight", "backbone", 0.9)
    with pytest.raises(ValueError, match="'fc'"):
        groups(only, "fc", "all", 0.9)


def test_weights_but_no_biases_or_normalisation() -> None:
    assert list(prunable(network())) == ["0.weight", "4.weight", "5.weight"]
    assert classifier(network()) == "5.weight"


def test_attention_projections() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    assert set(prunable(layer)) == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    apart = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert set(prunable(apart)) == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}


def test_a_shared_weight_appears_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert list(prunable(nn.Sequential(first, second))) == ["0.weight"]


def test_classifier_of_a_bare_layer_and_of_none() -> None:
    assert classifier(nn.Linear(2, 3)) == "weight"
    with pytest.raises(ValueError, match="Conv2d has no linear layer"):
        classifier(nn.Conv2d(1, 1, 1))
