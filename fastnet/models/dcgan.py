"""Deep convolutional adversarial networks (Radford et al. 2016): noise to images, images to a score; of labelled
images, the label goes into both (Mirza and Osindero 2014; Miyato and Koyama 2018)."""

from __future__ import annotations

from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.ops.shape import cat


def _doublings(name: str, image_size: int) -> int:
    """How often 4 doubles to image_size."""
    n = image_size.bit_length() - 3
    if n < 1 or image_size != 4 << n:
        raise ValueError(f"{name}: image_size is {image_size}, expected a power of two of at least 8")
    return n


def _check_labels(name: str, labels: Tensor | None, classes: int) -> None:
    if (labels is None) != (classes == 0):
        raise ValueError(f"{name}: labels are {'missing' if labels is None else 'given'}, but classes is {classes}")


def _start(module: nn.Module) -> None:
    """The paper's initialisation: weights normal with standard deviation 0.02, around 1 for batch norm."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            nn.init.normal_(m.weight, 0.0, 0.02)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)


class Generator(nn.Module):
    """Noise to images, by transposed convolutions that double the size.

    Args:
        latent: numbers of noise an image.
        channels: of the images.
        image_size: pixels of a side, a power of two from 8.
        width: channels before the last layer; doubled for each layer before it.
        classes: of the images, where each is drawn for a label, which joins its noise as a one-hot vector; 0 without
            labels.

    Shape: (N, latent) and labels (N,) int64 to (N, channels, image_size, image_size), values from -1 to 1.
    """

    def __init__(self, latent: int = 64, channels: int = 1, image_size: int = 16, width: int = 32, classes: int = 0):
        super().__init__()
        self.latent, self.classes = latent, classes
        inputs = latent + classes
        n = _doublings("Generator", image_size)
        filters = width << (n - 1)
        layers: list[nn.Module] = [
            nn.Unflatten(1, (inputs, 1, 1)),
            nn.ConvTranspose2d(inputs, filters, 4, 1, 0, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]
        for _ in range(n - 1):
            layers += [
                nn.ConvTranspose2d(filters, filters // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(filters // 2),
                nn.ReLU(),
            ]
            filters //= 2
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(filters, channels, 4, 2, 1), nn.Tanh())
        _start(self)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        _check_labels("Generator", labels, self.classes)
        if labels is not None:
            noise = cat([noise, F.one_hot(labels, self.classes).to(noise.dtype)], 1)
        return self.layers(noise)


class Discriminator(nn.Module):
    """Images to the logit of being real, by convolutions that halve the size.

    Args:
        channels, image_size: of the images.
        width: filters of the first layer; doubled by each after it.
        classes: of the images, where each is judged as one of its label: the logit gains the product of the last
            features, summed over the image, with a vector learned for the label (Miyato and Koyama 2018, section 3);
            0 without labels.

    Shape: (N, channels, image_size, image_size) and labels (N,) int64 to (N,).
    """

    def __init__(self, channels: int = 1, image_size: int = 16, width: int = 32, classes: int = 0):
        super().__init__()
        self.classes = classes
        n = _doublings("Discriminator", image_size)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for _ in range(n - 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 0), nn.Flatten(0))
        if classes:
            self.embedding = nn.Embedding(classes, width)
        _start(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        _check_labels("Discriminator", labels, self.classes)
        if labels is None:
            return self.layers(images)
        features = self.layers[:-2](images)
        return self.layers[-2:](features) + (features.sum((2, 3)) * self.embedding(labels)).sum(1)


class DCGAN(nn.Module):
    """A generator and a discriminator of one image size, as ``generator`` and ``discriminator``; arguments as theirs.

    Calling it generates: (N, latent), with classes and labels (N,) int64, to (N, channels, image_size, image_size).

    >>> import fastnet
    >>> gan = DCGAN(latent=8, image_size=8, width=4)
    >>> images = gan(fastnet.randn(5, 8))
    >>> images.shape, gan.discriminator(images).shape
    (fastnet.Size([5, 1, 8, 8]), fastnet.Size([5]))
    """

    def __init__(self, latent: int = 64, channels: int = 1, image_size: int = 16, width: int = 32, classes: int = 0):
        super().__init__()
        self.generator = Generator(latent, channels, image_size, width, classes)
        self.discriminator = Discriminator(channels, image_size, width, classes)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generator(noise, labels)
