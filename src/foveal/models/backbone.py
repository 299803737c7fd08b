"""Networks of timm, by its names. timm is an extra and imported only when one is asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foveal.errors import UserError

MAP_STRIDES = (8, 16, 32)  # pixels of the picture in one place of the maps that boxes are found on
MAP_SETTING = "base_network"

_declared: list[torch.library.Library] = []  # a library's operators live as long as this object


def timm_module(setting: str = "backbone") -> ModuleType:
    """Import timm.

    Args:
        setting: the one that asked for a network of timm's.

    Raises:
        UserError: when it is not installed, naming the extra.
    """
    _declare_torchvision_operators()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name not in ("timm", "torchvision"):
            raise
        raise UserError(
            f"this network comes from timm, and {error.name} is not installed",
            setting,
            'Install it: pip install "foveal[timm]"',
            setting,
        ) from error


def _declare_torchvision_operators() -> None:
    """Let a torchvision without its compiled part be imported, as timm does.

    Where torchvision's extension does not match torch, its import registers shapes for two operators that were
    never declared, and fails ("operator torchvision::nms does not exist"), although timm uses neither. Declaring
    them first is enough. Where the extension loads, it declares them itself and a second time would be an error: so
    only after a first import has failed.
    """
    if _declared or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


def build_backbone(
    name: str, image_shape: tuple[int, int, int], num_classes: int, setting: str = "backbone"
) -> nn.Module:
    """A timm network with random weights.

    Args:
        name: one of timm's, with or without a tag: ``tf_efficientnet_lite0``, ``resnet50.a1_in1k``.
        image_shape: channels, height, width. Given to networks that are built for one size (transformers).
        num_classes: width of its classifier.
        setting: the one that named it.

    Raises:
        UserError: when timm is missing, or has no network of that name; the nearest names are told.
    """
    timm = timm_module(setting)
    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = difflib.get_close_matches(name.split(".")[0], known, n=4, cutoff=0.5)
        raise UserError(
            f"timm {timm.__version__} has no network named {name!r}",
            setting,
            f"The nearest names: {', '.join(near)}." if near else "`timm.list_models()` lists them.",
            setting,
        )
    # Only some builders know this argument, and those with a fixed size need it for any other.
    size = {"img_size": image_shape[1:]} if _fixed_size(timm, name) else {}
    body = timm.create_model(name.split(".")[0], num_classes=num_classes, in_chans=image_shape[0], **size)
    assert isinstance(body, nn.Module)
    return body


def _fixed_size(timm: ModuleType, name: str) -> bool:
    cfg: Any = timm.get_pretrained_cfg(name.split(".")[0])
    return cfg is not None and bool(cfg.fixed_input_size)


def backbone_features(body: nn.Module, x: Tensor) -> Tensor:
    """Normalised pictures [B, C, H, W] -> what goes into the classifier: [B, F]."""
    network: Any = body
    features: Tensor = network.forward_head(network.forward_features(x), pre_logits=True)
    return features


def build_map_backbone(name: str, image_shape: tuple[int, int, int]) -> tuple[nn.Module, tuple[int, ...]]:
    """A timm network cut down to what gives its maps of stride 8, 16 and 32, under its own names.

    Args:
        name: one of timm's, as the setting ``base_network`` has it.
        image_shape: channels, height, width.

    Returns:
        The network, and the numbers of the maps for ``backbone_maps``.

    Raises:
        UserError: as ``build_backbone``, and when the network has no such maps, or takes no pictures of this size.
    """
    body: Any = build_backbone(name, image_shape, 0, MAP_SETTING)
    reductions = [entry["reduction"] for entry in body.feature_info] if hasattr(body, "forward_intermediates") else []
    if not set(MAP_STRIDES) <= set(reductions):
        has = f"of stride {', '.join(map(str, sorted(set(reductions))))}" if reductions else "of no stride at all"
        raise UserError(
            f"{name} gives maps {has}, and boxes are found on maps of stride 8, 16 and 32",
            MAP_SETTING,
            "Choose a network of convolutions, such as tf_efficientnet_lite0, resnet18 or mobilenetv3_large_100.",
            MAP_SETTING,
        )
    # The last one of each stride: it has seen most.
    numbers = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in MAP_STRIDES)
    body.prune_intermediate_layers(list(numbers), prune_norm=True, prune_head=True)
    _, height, width = image_shape
    try:
        meta_shapes(body, lambda x: backbone_maps(body, x, numbers), image_shape)
    except (RuntimeError, AssertionError) as error:  # its maps do not fit together, or it insists on one size
        raise UserError(
            f"{name} takes no pictures of {width}x{height} pixels: {str(error).splitlines()[0][:120]}",
            "image_shape",
            f"A multiple of 32 fits most networks: try image_shape={math.ceil(height / 32) * 32}.",
            "image_shape",
        ) from error
    return body, numbers


def backbone_maps(body: nn.Module, x: Tensor, numbers: Sequence[int]) -> list[Tensor]:
    """Normalised pictures [B, C, H, W] -> the maps with these numbers, each [B, c, h, w]."""
    network: Any = body
    maps: list[Tensor] = network.forward_intermediates(x, indices=list(numbers), intermediates_only=True)
    return maps


def meta_shapes(
    module: nn.Module, run: Callable[[Tensor], Sequence[Tensor]], image_shape: tuple[int, int, int]
) -> list[tuple[int, ...]]:
    """Shapes of what ``run``, which calls ``module``, gives for one picture; nothing is computed."""
    training = module.training
    caller = _Caller(module, run)
    state = {f"module.{name}": tensor for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    on_meta = {name: tensor.detach().to("meta") for name, tensor in state.items()}
    try:
        module.eval()  # a batch of one picture has no statistics
        with torch.no_grad():
            found = functional_call(caller, on_meta, (torch.zeros((1, *image_shape), device="meta"),))
    finally:
        module.train(training)
    return [tuple(each.shape) for each in found]


class _Caller(nn.Module):
    """Makes a function of a module its ``forward``."""

    def __init__(self, module: nn.Module, run: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.module = module
        self.run = run

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        return self.run(x)


def backbone_classifier(body: nn.Module) -> tuple[str, ...]:
    """Names of the last layer's modules; one, or two where timm's network has two heads."""
    network: Any = body
    last = network.get_classifier()
    heads = last if isinstance(last, tuple) else (last,)
    return tuple(name for name, module in body.named_modules() if any(module is head for head in heads))


def backbone_hub_id(name: str) -> str:
    """The hub's name of the weights that timm gives a network by default, ``timm/resnet50.a1_in1k``; or ``""``."""
    cfg: Any = timm_module().get_pretrained_cfg(name)
    return str(cfg.hf_hub_id or "") if cfg is not None else ""
