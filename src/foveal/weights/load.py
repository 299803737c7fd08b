"""Put pretrained weights into a network of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.errors import UserError
from foveal.models.network import ClassificationNetwork, NetworkSpec
from foveal.models.resnet import ResNet
from foveal.weights.find import Weights
from foveal.weights.identify import hint_of, lite0_names


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


def load_pretrained(network: ClassificationNetwork, weights: Weights, keep_last: bool = False) -> LoadReport:
    """Load weights by name into the network's body.

    The last layer stays new, as in the original, unless ``keep_last`` and the number of classes agrees. For picture
    channels other than three the first filter is summed over its channels (1) or its average repeated (n). A small
    stem keeps its starting values when the file has a large one.

    Raises:
        UserError: when the weights belong to another network, a tensor is missing or of another shape, or values are
            not finite; the network is then unchanged.
    """
    _check_kind(network, weights)
    state = network.body.state_dict()
    classifier = {name.removeprefix("body.") for name in network.classifier_names}
    theirs = _our_names(weights.tensors())
    first = next((name for name, tensor in network.body.named_parameters() if tensor.dim() == 4), "")
    small_stem = isinstance(network.body, ResNet) and network.body.plan.small_stem
    taken: dict[str, Tensor] = {}
    missing, differ, said = [], [], []
    for name, ours in state.items():
        tensor = theirs.get(name)
        fits = tensor is not None and tensor.shape == ours.shape
        if name in classifier and not (keep_last and fits):
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
    network.body.load_state_dict(state | {name: tensor.to(state[name].dtype) for name, tensor in taken.items()})
    new = tuple(name for name in state if name not in taken and not name.endswith(".num_batches_tracked"))
    left_out = tuple(name for name in theirs if name not in taken)
    return LoadReport(tuple(taken), new, left_out, (_summary(len(taken), new), *said))


def _check_kind(network: ClassificationNetwork, weights: Weights) -> None:
    wanted = hint_of(network.spec)
    if not weights.network.fits(wanted):
        raise UserError(
            f"these weights belong to {weights.network.label}, the network is {wanted.label}",
            str(weights.path),
            f"Choose the network that they belong to ({weights.network.label}), or other weights.",
            "weights",
        )


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
    layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in new)) or "nothing"
    return f"{taken} tensors taken, new: {layers}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
