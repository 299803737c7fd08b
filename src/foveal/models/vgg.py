"""VGG-16 (configuration D): its convolutions, with torchvision's names ``features.N``, and what follows them.

``Vgg16`` classifies by one linear layer on the averaged last map, in place of the three fully connected ones.
``VggReduced`` is what SSD looks at: fc6 and fc7 as convolutions (reference, section 6.2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.models.depths import scaled

FILTERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: 2x2 max pooling
STRIDE = 32  # pixels of the picture in one place of Vgg16's last map
POOL3, RELU4_3, POOL5 = 16, 22, 30  # numbers of layers


class Vgg16(nn.Module):
    """A classifier on normalised pictures.

    ``forward`` takes float [B, C, H, W] to logits [B, num_classes], ``embed`` to features [B, 512].
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = convolutions(channels)
        self.fc = nn.Linear(512, num_classes)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def embed(self, x: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] -> the last map, averaged over the picture: [B, 512]."""
        maps: Tensor = self.features(x)
        return maps.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.embed(x))
        return logits


class VggReduced(nn.Module):
    """The 13 convolutions, then fc6 (3x3, dilated by 6) and fc7 (1x1) at the stride of the fourth pooling, 16.

    ``maps`` takes float [B, C, H, W] to the maps after relu4_3 (stride 8) and relu7 (stride 16).
    """

    def __init__(self, channels: int, width: float = 1.0) -> None:
        super().__init__()
        self.features = convolutions(channels, width)
        # The third pooling rounds up, the fifth keeps the size.
        self.features[POOL3] = nn.MaxPool2d(2, ceil_mode=True)
        self.features[POOL5] = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc6 = nn.Conv2d(scaled(512, width), scaled(1024, width), 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(scaled(1024, width), scaled(1024, width), 1)

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number == RELU4_3:
                maps.append(x)
        x = F.relu(self.fc6(x), inplace=True)
        return [*maps, F.relu(self.fc7(x), inplace=True)]


def convolutions(channels: int, width: float = 1.0) -> nn.Sequential:
    """The 13 convolutions (numbers 0, 2, 5, ... 28) with their ReLUs and the five poolings, as torchvision counts.

    Args:
        channels: of the pictures.
        width: factor on all filters, for trials.
    """
    layers: list[nn.Module] = []
    for filters in FILTERS:
        if filters == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            filters = scaled(filters, width)
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
    return nn.Sequential(*layers)
