"""Splits, label noise, statistics and the digest of a bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.data import SOURCES, DataError
from core.data.load import channel_statistics, load_bundle
from core.data.noise import flip_labels
from core.data.source import RawImages
from core.data.split import draw_part, stratified
from core.rng import generator
from core.rounding import count, largest_remainder


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


@settings(deadline=None, max_examples=60)
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_stratified_sizes_are_exact_and_parts_disjoint(labels: list[int], share: float, seed: int) -> None:
    labels_N, size = torch.tensor(labels), count(share, len(labels))
    chosen, rest = stratified(labels_N, size, rng(seed))
    assert sorted(chosen.tolist() + rest.tolist()) == list(range(len(labels)))
    assert chosen.tolist() == sorted(chosen.tolist())
    counts = labels_N.bincount().tolist()
    assert labels_N[chosen].bincount(minlength=len(counts)).tolist() == largest_remainder(counts, size, counts)


def test_stratified_refuses_more_than_there_are() -> None:
    with pytest.raises(ValueError, match="cannot divide 4"):
        stratified(torch.tensor([0, 1, 1]), 4, rng())


def test_stratified_chooses_every_member_equally_often() -> None:
    labels_N = torch.tensor([0] * 4 + [1] * 8)
    hits = torch.zeros(12)
    for seed in range(2000):
        hits[stratified(labels_N, 3, rng(seed))[0]] += 1
    assert torch.allclose(hits / 2000, torch.tensor(0.25), atol=0.04)


def test_a_larger_subset_contains_the_smaller() -> None:
    labels_N = torch.arange(200) % 10
    small, large = (set(draw_part(labels_N, n, 3, "subset")[0].tolist()) for n in (50, 120))
    assert small < large
    assert set(draw_part(labels_N, 50, 3, "val")[0].tolist()) != small


def test_splits_are_disjoint_stratified_and_fixed_by_the_split_seed() -> None:
    source = SOURCES["synthetic"](samples=400, val_fraction=0.25, spread=3.0)
    bundle = load_bundle(source)
    train, val = set(rows(bundle.train.images)), set(rows(bundle.val.images))
    assert len(train) + len(val) == 400
    assert not train & val
    assert bundle.val.labels.bincount().tolist() == [25] * 4
    other = load_bundle(SOURCES["synthetic"](samples=400, val_fraction=0.25, spread=3.0, split_seed=1))
    assert set(rows(other.val.images)) != val
    assert set(rows(other.test.images)) == set(rows(bundle.test.images))


def test_global_generators_neither_matter_nor_move() -> None:
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), load_bundle(SOURCES["digits"](label_noise=0.2)).digest
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    np.random.seed(2)
    assert load_bundle(SOURCES["digits"](label_noise=0.2)).digest == first


def test_only_chosen_images_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = SOURCES["synthetic"]
    raw, asked = cls().load(), []

    class Watched:
        def __len__(self) -> int:
            return len(raw.train_images)

        def __getitem__(self, index: np.ndarray) -> np.ndarray:
            asked.extend(index.tolist())
            return raw.train_images[index]

    lazy = RawImages(Watched(), raw.train_labels, raw.test_images, raw.test_labels, raw.class_names)
    monkeypatch.setattr(cls, "load", lambda self: lazy)
    bundle = load_bundle(cls(subset=40))
    assert len(asked) == 40 == len(bundle.train) + len(bundle.val)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 80), classes=st.integers(2, 12), fraction=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_noise_count_is_exact_and_never_the_same_class(n: int, classes: int, fraction: float, seed: int) -> None:
    labels_N = torch.arange(n) % classes
    noisy_N, flipped_N = flip_labels(labels_N, classes, fraction, rng(seed))
    assert int(flipped_N.sum()) == count(fraction, n)
    assert torch.equal(noisy_N != labels_N, flipped_N)
    assert 0 <= noisy_N.min() <= noisy_N.max() < classes


def test_noise_is_uniform_over_the_other_classes() -> None:
    noisy_N, flipped_N = flip_labels(torch.full((30_000,), 2), 5, 0.5, rng())
    assert torch.allclose(noisy_N[flipped_N].bincount() / 15_000, torch.tensor([0.25, 0.25, 0, 0.25, 0.25]), atol=0.02)


def test_smaller_noise_is_part_of_larger() -> None:
    labels_N = torch.arange(100) % 7
    (small, flips), (large, more) = (flip_labels(labels_N, 7, f, rng()) for f in (0.1, 0.4))
    assert more[flips].all()
    assert torch.equal(small[flips], large[flips])


def test_noise_needs_another_class() -> None:
    with pytest.raises(DataError, match=r"label_noise 0\.5 needs 2 classes"):
        flip_labels(torch.zeros(4, dtype=torch.int64), 1, 0.5, rng())
    assert load_bundle(SOURCES["synthetic"](classes=1)).num_classes == 1


def test_noise_touches_training_labels_only() -> None:
    clean, noisy = (load_bundle(SOURCES["digits"](label_noise=f)) for f in (0.0, 0.1))
    assert int(noisy.flipped_N.sum()) == count(0.1, len(clean.train)) == 129
    assert torch.equal(clean.train.labels != noisy.train.labels, noisy.flipped_N)
    assert torch.equal(clean.train.images, noisy.train.images)
    assert torch.equal(clean.val.labels, noisy.val.labels)
    assert torch.equal(clean.test.labels, noisy.test.labels)
    expected = flip_labels(clean.train.labels, 10, 0.1, generator(0, "noise"))
    assert torch.equal(noisy.train.labels, expected[0])


@pytest.mark.parametrize(
    "fields",
    [{"seed": 1}, {"split_seed": 1}, {"label_noise": 0.1}, {"subset": 500}, {"val_fraction": 0.2}, {"size": 9}],
)
def test_digest_sees_every_change(fields: dict[str, float]) -> None:
    assert load_bundle(SOURCES["synthetic"](**fields)).digest != load_bundle(SOURCES["synthetic"]()).digest


def test_digest_sees_one_pixel_and_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = SOURCES["synthetic"]
    digests = {load_bundle(cls()).digest}
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        raw = cls().load()
        getattr(raw, part)[-1] ^= 1
        with monkeypatch.context() as patch:
            patch.setattr(cls, "load", lambda self, raw=raw: raw)
            digests.add(load_bundle(cls()).digest)
    assert len(digests) == 5


def test_statistics_are_of_the_training_split() -> None:
    bundle = load_bundle(SOURCES["synthetic"](channels=3, subset=300))
    floats = bundle.train.images.double()
    assert torch.allclose(bundle.mean_C.double(), floats.mean((0, 2, 3)))
    assert torch.allclose(bundle.std_C.double(), floats.std((0, 2, 3), correction=0))


def test_a_constant_channel_has_a_deviation_of_one_step() -> None:
    mean_C, std_C = channel_statistics(torch.full((2, 1, 3, 3), 200, dtype=torch.uint8))
    assert (mean_C.item(), std_C.item()) == (200.0, 1.0)
