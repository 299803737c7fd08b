"""VGG-16 (configuration D): its convolutions, with torchvision's names ``features.N``, and one linear layer.

The fully connected layers of the original are left out: pictures of any size from 32 pixels on, the last map averaged.
"""

from __future__ import annotations

from torch import Tensor, nn

FILTERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: 2x2 max pooling
STRIDE = 32  # pixels of the picture in one place of the last map


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


def convolutions(channels: int) -> nn.Sequential:
    """The 13 convolutions (numbers 0, 2, 5, ... 28) with their ReLUs and the five poolings, as torchvision counts."""
    layers: list[nn.Module] = []
    for filters in FILTERS:
        if filters == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
    return nn.Sequential(*layers)
