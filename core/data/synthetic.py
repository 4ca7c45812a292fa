"""Images drawn around one random mean image per class: for tests, and for data sets of a chosen difficulty."""

from __future__ import annotations

from typing import ClassVar, Literal

from core.data.memory import check_fits
from core.data.source import Facts, RawImages, Source
from core.plugin import Count, Natural, NonNegative, plugin
from core.rng import generator

_CENTRE = 127.5
_SCALE = 32.0
DRAWN_BYTES = 8
"""Of memory per pixel while it is drawn: its noise, and what becomes of it."""


@plugin
class Synthetic(Source):
    """Gaussian classes: pixel = 127.5 + 32 (mean + ``spread`` * noise), both standard normal, rounded and clipped.

    Samples go round the classes. ``seed`` draws the images and nothing else; ``split_seed`` divides them.
    """

    name: Literal["synthetic"] = "synthetic"
    summary: ClassVar[str] = "Gaussian classes of chosen size, number and spread; generated, nothing to download"
    samples: Count = 512
    """Training images, the validation split included."""
    test_samples: Count = 256
    """Test images."""
    classes: Count = 4
    """Number of classes, of equal size."""
    channels: Count = 1
    """Of an image."""
    size: Count = 8
    """Height and width in pixels."""
    spread: NonNegative = 2.0
    """Standard deviation of the noise, in units of that of the class means."""
    seed: Natural = 0
    """Draws the images."""

    def facts(self) -> Facts:
        """The fields themselves."""
        return self.sized(self.samples, self.test_samples, self.classes, (self.channels, self.size, self.size))

    def load(self) -> RawImages:
        """Draw everything."""
        import torch

        total = self.samples + self.test_samples
        check_fits(total + self.classes, DRAWN_BYTES * self.channels * self.size**2, self.name)
        labels_N = torch.cat([torch.arange(self.samples), torch.arange(self.test_samples)]) % self.classes
        shape = (self.channels, self.size, self.size)
        mean = torch.randn((self.classes, *shape), generator=generator(self.seed, "means"))
        noise = torch.randn((total, *shape), generator=generator(self.seed, "pixels"))
        pixels = _CENTRE + _SCALE * (mean[labels_N] + self.spread * noise)
        images, labels = pixels.round().clamp(0, 255).to(torch.uint8).numpy(), labels_N.numpy()
        names = tuple(str(label) for label in range(self.classes))
        n = self.samples
        return RawImages(images[:n], labels[:n], images[n:], labels[n:], names)
