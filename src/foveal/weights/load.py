"""Put pretrained weights into a network of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.errors import UserError
from foveal.models.detector import RESNET50, VGG, Detector, DetectorSpec
from foveal.models.network import ClassificationNetwork, NetworkSpec
from foveal.models.resnet import ResNet
from foveal.models.vgg import VggReduced
from foveal.weights.find import Weights
from foveal.weights.identify import hint_of, lite0_names

SSD_HEAD = ("extras.", "class_heads.", "box_heads.", "scale")
PYRAMID_HEAD = (
    "lateral.",
    "further.",
    "finer.",
    "halved.",
    "coarser.",
    "class_tower.",
    "box_tower.",
    "classes.",
    "sides.",
)
FC6, FC7 = 4096 * 512 * 7 * 7, 4096 * 4096  # numbers in the weights of VGG-16's first two fully connected layers


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        taken: names in the network that now hold the file's values.
        new: names in the network that keep their starting values.
        left_out: names in the file that have no place in the network.
        said: what a person should know, a line each.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    said: tuple[str, ...]


def network_for(weights: Weights, num_classes: int, image_shape: tuple[int, int, int]) -> NetworkSpec:
    """The specification of the network that weights belong to, with their normalisation.

    With other than three channels, each gets the average of the three means and deviations.
    """
    net, channels = weights.network, image_shape[0]
    mean, std = weights.normalisation.mean, weights.normalisation.std
    if mean and channels != 3:
        mean, std = (sum(mean) / 3,) * channels, (sum(std) / 3,) * channels
    return NetworkSpec(
        net.family, num_classes, image_shape, net.num_layers, net.resnet, net.backbone, mean=mean, std=std
    )


def detector_for(weights: Weights, num_classes: int, image_shape: tuple[int, int, int]) -> DetectorSpec:
    """The specification of a detector whose backbone weights belong to, with their normalisation.

    Raises:
        UserError: when they belong to a ResNet of ours that no detector is built on.
    """
    net = network_for(weights, num_classes, image_shape)
    base, kind = net.backbone, net.resnet
    if net.family == "vgg":
        base = VGG
    elif net.family == "resnet" and net.num_layers == 50:
        base = RESNET50
    elif net.family == "resnet" and kind == "post":
        base, kind = f"resnet{net.num_layers}", ""  # timm's, which is the same network
    elif net.family == "resnet":
        raise UserError(
            f"these weights belong to {weights.network.label}, on which no detector is built",
            str(weights.path),
            "Of this kind only num_layers=50 serves as a base: choose other weights.",
            "weights",
        )
    return DetectorSpec(base, num_classes, image_shape, kind, mean=net.mean, std=net.std)


def load_pretrained(network: ClassificationNetwork | Detector, weights: Weights, keep_last: bool = False) -> LoadReport:
    """Load weights by name into a classifier's body, or a detector's backbone.

    A classifier's last layer stays new, as in the original, unless ``keep_last`` and the number of classes agrees. For
    picture channels other than three the first filter is summed over its channels (1) or its average repeated (n). A
    small stem keeps its starting values when the file has a large one. fc6 and fc7 of a detector's VGG-16 are sampled
    from the file's fully connected layers; where it has none, they keep their starting values, as all of a detector
    but its backbone does.

    Raises:
        UserError: when the weights belong to another network, a tensor is missing or of another shape, or values are
            not finite; the network is then unchanged.
    """
    _check_kind(network, weights)
    part, start = (network.body.backbone, "backbone.") if isinstance(network, Detector) else (network.body, "")
    theirs = _our_names(weights.tensors())
    may_stay = _may_stay(network, keep_last)
    if isinstance(part, VggReduced):
        theirs |= _reduced_layers(theirs)
    taken, said = _match(part, theirs, may_stay, weights)
    state = part.state_dict()
    part.load_state_dict(state | {name: tensor.to(state[name].dtype) for name, tensor in taken.items()})
    names = tuple(start + name for name in taken)
    everything = network.body.state_dict()
    new = tuple(n for n in everything if n not in names and not n.endswith(".num_batches_tracked"))
    left_out = tuple(name for name in theirs if name not in taken)
    return LoadReport(names, new, left_out, (_summary(len(taken), new), *said))


def _may_stay(network: ClassificationNetwork | Detector, keep_last: bool) -> dict[str, bool]:
    """Names that may keep their starting values, and whether they are taken when the file has them and they fit."""
    if isinstance(network, Detector):
        return dict.fromkeys(("fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"), True)
    return {name.removeprefix("body."): keep_last for name in network.classifier_names}


def _match(
    part: nn.Module, theirs: Mapping[str, Tensor], may_stay: Mapping[str, bool], weights: Weights
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that go into a part of a network, and what is to be said about it. Raises UserError."""
    first = next((name for name, tensor in part.named_parameters() if tensor.dim() == 4), "")
    small_stem = isinstance(part, ResNet) and part.plan.small_stem
    taken: dict[str, Tensor] = {}
    missing, differ, said = [], [], []
    for name, ours in part.state_dict().items():
        tensor = theirs.get(name)
        fits = tensor is not None and tensor.shape == ours.shape
        if name in may_stay and not (may_stay[name] and fits):
            continue
        if tensor is None:
            if not name.endswith(".num_batches_tracked"):  # absent from old files
                missing.append(name)
        elif fits:
            taken[name] = tensor
        elif name == first and small_stem and tensor.shape[2:] != ours.shape[2:]:
            said.append(f"the first filter is new: the file's is {_shape(tensor)}, small pictures take {_shape(ours)}")
        elif name == first and _only_channels_differ(tensor, ours):
            taken[name] = _adapt_channels(tensor, ours.shape[1])
            way = "summed over its 3 channels" if ours.shape[1] == 1 else "its average repeated over the channels"
            said.append(f"the first filter is {way}, because pictures have {ours.shape[1]}")
        else:
            differ.append(f"{name} is {_shape(tensor)}, the network takes {_shape(ours)}")
    _refuse("missing", missing, weights)
    _refuse("of another shape", differ, weights)
    _refuse("not finite", [name for name, tensor in taken.items() if not bool(tensor.isfinite().all())], weights)
    return taken, said


def _check_kind(network: ClassificationNetwork | Detector, weights: Weights) -> None:
    wanted = hint_of(network.spec)
    if not weights.network.fits(wanted):
        raise UserError(
            f"these weights belong to {weights.network.label}, the network is {wanted.label}",
            str(weights.path),
            f"Choose the network that they belong to ({weights.network.label}), or other weights.",
            "weights",
        )


def _reduced_layers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fc6 and fc7 of the reduced VGG-16 out of the whole one's first two fully connected layers, as far as it has them.

    Every fourth of their 4096 filters is taken, and of fc6's 7x7 places every third; fc6 is dilated to make up for it.
    torchvision calls them ``classifier.0`` and ``classifier.3``, timm ``pre_logits.fc1`` and ``pre_logits.fc2``.
    """
    found: dict[str, Tensor] = {}
    for theirs, inputs in (("classifier.0", "classifier.3"), ("pre_logits.fc1", "pre_logits.fc2")):
        fc6, fc7 = tensors.get(f"{theirs}.weight"), tensors.get(f"{inputs}.weight")
        if fc6 is None or fc7 is None or fc6.numel() != FC6 or fc7.numel() != FC7:
            continue
        found["fc6.weight"] = fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3]
        found["fc7.weight"] = fc7.reshape(4096, 4096, 1, 1)[::4, ::4]
        found["fc6.bias"], found["fc7.bias"] = tensors[f"{theirs}.bias"][::4], tensors[f"{inputs}.bias"][::4]
    return found


def _our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0's package has names of its own; all other files have the network's."""
    names = lite0_names() if "_conv_stem.weight" in tensors else {}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _only_channels_differ(tensor: Tensor, ours: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.shape[1] == 3
        and tensor.shape[:1] + tensor.shape[2:] == ours.shape[:1] + ours.shape[2:]
    )


def _adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A first filter for RGB, [F, 3, h, w], for ``channels``: grey shown in each gives the answer of grey in RGB."""
    total = weight.to(torch.float32).sum(1, keepdim=True)
    return total.expand(-1, channels, -1, -1) / channels


def _refuse(what: str, found: list[str], weights: Weights) -> None:
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise UserError(
            f"{len(found)} tensors are {what}: {'; '.join(found[:5])}{more}",
            str(weights.path),
            "The file belongs to another network, or is damaged: choose the network that it was made for.",
            "weights",
        )


def _summary(taken: int, new: tuple[str, ...]) -> str:
    layers = dict.fromkeys(name.rpartition(".")[0].removeprefix("backbone.") for name in new if not _is_head(name))
    if any(map(_is_head, new)):
        layers["the layers that find boxes"] = None
    return f"{taken} tensors taken, new: {', '.join(layers) or 'nothing'}"


def _is_head(name: str) -> bool:
    return name.startswith((*SSD_HEAD, *PYRAMID_HEAD))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
