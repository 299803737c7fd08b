"""Networks of timm, by its names. timm is an extra and imported only when one is asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import UserError

_declared: list[torch.library.Library] = []  # a library's operators live as long as this object


def timm_module() -> ModuleType:
    """Import timm.

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
            "backbone",
            'Install it: pip install "foveal[timm]"',
            "backbone",
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


def build_backbone(name: str, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A timm network with random weights.

    Args:
        name: one of timm's, with or without a tag: ``tf_efficientnet_lite0``, ``resnet50.a1_in1k``.
        image_shape: channels, height, width. Given to networks that are built for one size (transformers).
        num_classes: width of its classifier.

    Raises:
        UserError: when timm is missing, or has no network of that name; the nearest names are told.
    """
    timm = timm_module()
    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = difflib.get_close_matches(name.split(".")[0], known, n=4, cutoff=0.5)
        raise UserError(
            f"timm {timm.__version__} has no network named {name!r}",
            "backbone",
            f"The nearest names: {', '.join(near)}." if near else "`timm.list_models()` lists them.",
            "backbone",
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
