"""Random crop and flip: equal to the obvious loop, with the distribution it claims."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from core.data.augment import AUGMENTATIONS, crop_flip


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive(images: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    shifts = torch.randint(0, 2 * padding + 1, (2, len(images)), generator=generator).tolist()
    flips = torch.randint(0, 2, (len(images),), generator=generator, dtype=torch.bool).tolist()
    height, width = images.shape[2:]
    out = []
    for image, y, x, flip in zip(images, *shifts, flips, strict=True):
        window = pad(image, (padding,) * 4)[:, y : y + height, x : x + width]
        out.append(window.flip(-1) if flip else window)
    return torch.stack(out)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(17, 3, 32, 32), (5, 1, 8, 8), (4, 2, 5, 9), (1, 1, 1, 1)])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_equals_the_loop(shape: tuple[int, ...], dtype: torch.dtype, padding: int) -> None:
    images = torch.randint(0, 256, shape, generator=rng()).to(dtype)
    result = crop_flip(images, rng(3), padding)
    assert torch.equal(result, naive(images, rng(3), padding))
    assert (result.shape, result.dtype) == (images.shape, dtype)


def test_channels_last_gives_the_same() -> None:
    images = torch.rand(6, 3, 8, 8)
    assert torch.equal(crop_flip(images.contiguous(memory_format=torch.channels_last), rng()), crop_flip(images, rng()))


def test_golden_flip() -> None:
    images = torch.tensor([[1, 2, 3], [4, 5, 6]]).expand(8, 1, 2, 3)
    mirrored = torch.tensor([[3, 2, 1], [6, 5, 4]])
    flips = (
        torch.randint(0, 1, (2, 8), generator=(g := rng())),
        torch.randint(0, 2, (8,), generator=g, dtype=torch.bool),
    )
    for image, flip in zip(crop_flip(images, rng(), padding=0), flips[1], strict=True):
        assert torch.equal(image[0], mirrored if flip else images[0, 0])
    assert 0 < int(flips[1].sum()) < 8


def test_every_shift_and_flip_occurs_equally_often() -> None:
    """A lone bright pixel in the centre of 9 x 9 lands on each of the 81 places that 4 steps reach."""
    images = torch.zeros(16_200, 1, 9, 9)
    images[:, 0, 4, 4] = 1
    landed = crop_flip(images, rng()).sum(0)[0]
    assert landed.sum() == 16_200
    assert (landed - 200).abs().max() < 5 * 200**0.5
    edge = torch.zeros(4000, 1, 3, 3)
    edge[:, 0, 1, 0] = 1
    assert abs(int(crop_flip(edge, rng(), padding=0)[:, 0, 1, 2].sum()) - 2000) < 160


def test_deterministic_and_free_of_the_global_generator() -> None:
    images, state = torch.rand(8, 3, 8, 8), torch.get_rng_state()
    assert torch.equal(crop_flip(images, rng(1)), crop_flip(images, rng(1)))
    assert not torch.equal(crop_flip(images, rng(1)), crop_flip(images, rng(2)))
    assert torch.equal(state, torch.get_rng_state())


def test_none_draws_nothing() -> None:
    images, generator = torch.rand(2, 1, 4, 4), rng()
    before = generator.get_state()
    assert AUGMENTATIONS["none"](images, generator) is images
    assert torch.equal(before, generator.get_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_does_not_matter() -> None:
    images = torch.rand(8, 3, 8, 8)
    assert torch.equal(crop_flip(images.cuda(), rng()).cpu(), crop_flip(images, rng()))
