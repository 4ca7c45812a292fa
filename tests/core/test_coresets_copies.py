"""Selectors that take a copy of the network apart: what is cut, what it learns, what comes back, what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.config import first_selection
from core.copies import Copies, fuse
from core.coresets import SELECTORS
from core.coresets.samples import Copy, Samples
from core.events import CoresetSelected, EpochEnded
from core.macs import measure
from core.network import Network
from core.pruning.couplings import Structure
from core.pruning.cuts import Surgery
from core.rng import generator
from core.surgery import part, placed
from core.trainer import Trainer
from tests.core.test_trainer import JOINT, bundle, trainer

CELL = replace(JOINT, selector="prunefuse")
LOGITS_NC = torch.tensor([[2.0, 0.0], [0.0, 0.1], [3.0, 3.5], [0.0, 9.0]])


class Asked:
    """Four hidden units between two inputs and two classes; remembers what was asked, and trains nothing."""

    def __init__(self) -> None:
        self.surgery = Surgery()
        self.epochs = 0

    def structure(self) -> Structure:
        module = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        with torch.no_grad():
            module[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.5], [3.0, 0.0], [-0.5, 0.0]]))
        return Structure(module.eval(), torch.zeros(1, 1, 1, 2))

    def trained(self, surgery: Surgery, epochs: int, rng: torch.Generator) -> Copy:
        self.surgery, self.epochs = surgery, epochs
        return Copy(surgery, {}, LOGITS_NC)


def test_the_copy_is_without_half_of_the_weights_and_chooses_what_it_is_unsure_of() -> None:
    # 8 + 8 weights; a unit takes 2 + 2. Sums of absolute weights 2, .5, 3, .5: the two of .5 leave 8.
    # Gaps between the two logits: 2, .1, .5, 9. The smallest are those of samples 1 and 2.
    asked = Asked()
    selector = SELECTORS["prunefuse"](epochs=3)
    given_ = Samples(torch.tensor([0, 1, 0, 1]), 2, apart=asked)
    coreset = selector.select(given_, size=2, progress=0.5, rng=torch.Generator())
    assert {place: index.tolist() for place, index in asked.surgery.kept.items()} == {
        ("1.weight", 0): [0, 2],
        ("1.bias", 0): [0, 2],
        ("3.weight", 1): [0, 2],
    }
    assert asked.epochs == 3
    assert coreset.index_M.tolist() == [1, 2]
    assert coreset.copy is not None
    alone = SELECTORS["prunefuse"](fuse=False).select(given_, size=2, progress=0.5, rng=torch.Generator())
    assert alone.copy is None


@given(st.data())
def test_what_was_cut_out_goes_back_to_its_place(data: st.DataObject) -> None:
    shape = (4, 5)
    kept = {
        dim: torch.tensor(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))))
        for dim, size in enumerate(shape)
        if data.draw(st.booleans())
    }
    whole = torch.arange(20.0).view(shape)
    assert torch.equal(placed(whole, part(whole, kept), kept), whole)
    back = placed(whole, part(whole, kept) + 100, kept)
    assert int((back != whole).sum()) == part(whole, kept).numel()
    assert torch.equal(part(back, kept), part(whole, kept) + 100)


def test_a_copy_learns_as_the_network_would_and_leaves_it_alone() -> None:
    run = trainer(CELL)
    module, charged = run.network.module, []
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def charge(layers: object, *, forward: int, backward: int) -> None:
        charged.append((layers, forward, backward))

    copies = Copies(run.cell, 5, run.bundle, module, {}, charge)
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    copy = copies.trained(Surgery(), 2, generator(0, "select", 5))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert charged == [(measure(module, run.bundle.image_shape), 3 * 180, 2 * 180)]
    # The same by hand, on the network itself: epoch 5 of 8 has lr/2 (1 + cos(pi 4/8)) = lr/2.
    sgd = torch.optim.SGD(module.parameters(), lr=run.cell.lr / 2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    draw = generator(0, "select", 5)
    for _ in range(2):
        for index in torch.tensor_split(torch.randperm(180, generator=draw), -(-180 // run.cell.batch_size)):
            sgd.zero_grad()
            images = run.network.inputs(run.bundle.train.images[index])
            cross_entropy(module(images), run.bundle.train.labels[index]).backward()
            sgd.step()
    torch.testing.assert_close(copy.logits_NC, run.network.logits(run.bundle.train.images), rtol=1e-3, atol=1e-3)


def test_only_the_channels_of_the_copy_are_written() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    kept = torch.tensor([0, 2])
    surgery = Surgery({("0.weight", 0): kept, ("0.bias", 0): kept, ("1.weight", 1): kept})
    tensors = {"0.weight": torch.zeros(2, 2), "0.bias": torch.ones(2), "1.weight": torch.zeros(2, 2)}
    fuse(module, Copy(surgery, {**tensors, "1.bias": torch.full((2,), 5.0)}, torch.zeros(1, 2)))
    assert not module[0].weight[[0, 2]].any()
    assert torch.equal(module[0].weight[1], before["0.weight"][1])
    assert torch.equal(module[1].weight[:, 1], before["1.weight"][:, 1])
    assert module[0].bias[[0, 2]].tolist() == [1, 1]
    assert module[1].bias.tolist() == [5, 5]


@pytest.mark.parametrize("pruner", ["rigl", "probmask", "channels"])
def test_a_run_takes_over_what_the_copy_learnt(pruner: str) -> None:
    """At a selection: the network has the copy's weights, the mask holds, and its predictions are those recorded."""
    run = trainer(replace(CELL, pruner=pruner))
    first = first_selection(run.cell)
    list(run.events(until=first - 1))
    _, copy = run._select(first)
    assert copy is not None
    weights, kept = run.network.weights, copy.surgery.kept
    for name, weight in weights.items():
        place = {dim: index for (layer, dim), index in kept.items() if layer == name}
        mask = run.masking.mask[name]
        live = part(mask, place) | run.masking.pruner.learns_forward
        assert torch.equal(part(weight.detach(), place)[live], copy.tensors[name][live])
        assert not weight[~mask].any() or run.masking.pruner.learns_forward
    run._record(first, copy)
    assert run.preserved is not None
    learnt_MC = copy.logits_NC[run.index_M].log_softmax(1)
    assert torch.equal(run.preserved.log_probs_MC, learnt_MC)


@pytest.mark.parametrize("pruner", ["rigl", "probmask"])
def test_batch_norm_knows_the_network_that_it_is_in(pruner: str) -> None:
    """After fusing, the first layer's statistics are those of its outputs on all samples, under the mask."""
    run = trainer(replace(CELL, pruner=pruner))
    assert any(isinstance(event, CoresetSelected) for event in run.events())
    norm = next(part for part in run.network.module.modules() if isinstance(part, nn.BatchNorm2d))
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, given_: seen.append(given_[0]))
    run.network.logits(run.bundle.train.images, run.masking.evaluated())
    handle.remove()
    torch.testing.assert_close(norm.running_mean, torch.cat(seen).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert run.network.module.training


def test_a_fused_network_classifies_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the copy's own statistics the masked network would be lost for an epoch: a dip that no removal has made."""
    cell = replace(CELL, model={"name": "small_cnn", "width": 8}, prune_rate=0.8)

    def fall() -> float:
        run = trainer(cell)
        before = [e for e in run.events(until=3) if isinstance(e, EpochEnded)][-1].test
        next(run.events())
        after = run._evaluate(run.bundle.test)
        assert before is not None
        assert after is not None
        return before.accuracy - after.accuracy

    with_own = fall()
    monkeypatch.setattr(Network, "measure_statistics", lambda *_: None)
    assert with_own < fall()
    assert with_own < 0.1


def test_the_copy_is_charged_like_any_selection() -> None:
    plain = replace(CELL, pruner="none", prune_rate=0.0, preservation="none")
    spent = {
        name: {e.epoch: e.cost for e in trainer(replace(plain, selector=name)).events() if isinstance(e, EpochEnded)}
        for name in ("random", "prunefuse")
    }
    fourth = spent["prunefuse"][4]
    assert fourth.selection > 0
    assert fourth.sparse == spent["random"][4].sparse
    assert fourth.dense == pytest.approx(spent["random"][4].dense + fourth.selection)
    assert spent["prunefuse"][3].selection == 0


def test_a_copy_that_is_not_fused_leaves_the_network_alone() -> None:
    cell = replace(CELL, selector=SELECTORS["prunefuse"](fuse=False), preservation="none")
    run = Trainer(cell, bundle(replace(cell, seed=0)))
    list(run.events(until=3))
    before = {name: tensor.clone() for name, tensor in run.network.module.state_dict().items()}
    run._select(run.epoch + 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.network.module.state_dict().items())
