"""Find pretrained weights: a file, a folder, what FOVEAL_WEIGHTS names, or the hub."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from foveal.errors import UserError
from foveal.models.backbone import backbone_hub_id
from foveal.models.depths import SMALL_DEPTHS
from foveal.weights.files import SUFFIXES, read_shapes, read_tensors
from foveal.weights.hub import NoWeights, hub_file, is_hub_id
from foveal.weights.identify import NetworkHint, Shapes, identify
from foveal.weights.normalisation import Normalisation, description_beside, find_normalisation

VARIABLE = "FOVEAL_WEIGHTS"
# ImageNet weights of timm's authors, Apache-2.0; the ones timm itself takes by default.
PUBLIC_RESNETS = {
    18: "timm/resnet18.a1_in1k",
    34: "timm/resnet34.a1_in1k",
    50: "timm/resnet50.a1_in1k",
    101: "timm/resnet101.a1h_in1k",
    152: "timm/resnet152.a1h_in1k",
}
PUBLIC_VGG = "timm/vgg16.tv_in1k"


@dataclass(frozen=True)
class Weights:
    """A file of weights, the network it is for and how that network wants its pictures.

    Attributes:
        path: the file.
        origin: what named it: a path, ``FOVEAL_WEIGHTS``, or a repository of the hub.
        network: the network it belongs to.
        shapes: of its tensors, by name.
        normalisation: in units of pixel values 0..255, RGB.
    """

    path: Path
    origin: str
    network: NetworkHint
    shapes: Shapes
    normalisation: Normalisation

    def tensors(self) -> dict[str, Tensor]:
        """Read the tensors, by the file's names."""
        return read_tensors(self.path)


def find_weights(request: str | Path = "", wanted: NetworkHint | None = None, normalisation: str = "") -> Weights:
    """Find weights for a network, or weights that say which network to take.

    Args:
        request: the setting ``weights``: a file, a folder, or a repository of the hub (``owner/name``). Empty: what
            the variable FOVEAL_WEIGHTS names (file or folder), then the public ImageNet weights of ``wanted``.
        wanted: the network that must fit; None takes any that the tensors identify.
        normalisation: the setting ``weights_normalisation``; empty: as stored beside the weights or known.

    Raises:
        NoWeights: when no place was named and none can be had; training from scratch remains.
        UserError: when what was named is missing, damaged, or belongs to another network, or when the normalisation
            is not known.
    """
    if request:
        return _named(str(request), wanted, normalisation)
    variable = os.environ.get(VARIABLE, "")
    if variable:
        place = Path(variable).expanduser()
        if place.is_dir():
            found = _in_folder(place, wanted)
            if found or wanted is None:
                return _only(found, place, VARIABLE, wanted, normalisation)
        elif place.is_file():
            return _open(place, VARIABLE, wanted, normalisation)
        else:
            raise UserError(f"{variable!r} does not exist", VARIABLE, "Correct or unset the variable.")
    if wanted is None:
        raise NoWeights(
            f"no pretrained weights were named and {VARIABLE} is not set",
            "weights",
            f"Set weights to a file, a folder or a hub name such as {PUBLIC_RESNETS[18]}, or set {VARIABLE}.",
            "weights",
        )
    repo = public_weights(wanted)
    return _open(hub_file(repo), repo, wanted, normalisation)


def public_weights(network: NetworkHint) -> str:
    """The hub's name of public ImageNet weights for a network.

    Raises:
        NoWeights: when there are none, naming the nearest network that has some.
    """
    if network.family == "vgg":
        return PUBLIC_VGG
    if network.family == "timm":
        repo = backbone_hub_id(network.backbone)
        if repo:
            return repo
        raise NoWeights(
            f"timm names no public weights for {network.backbone}",
            "use_pretrained_model",
            "Set weights=FILE, or choose another backbone.",
            "use_pretrained_model",
        )
    if network.resnet == "post" and network.num_layers in PUBLIC_RESNETS:
        return PUBLIC_RESNETS[network.num_layers]
    depth = network.num_layers
    nearest = depth if depth in PUBLIC_RESNETS else min(PUBLIC_RESNETS, key=lambda known: abs(known - depth))
    small = " They are for pictures of 224x224 pixels; smaller ones are enlarged." if depth in SMALL_DEPTHS else ""
    raise NoWeights(
        f"there are no public ImageNet weights for {network.label}",
        "use_pretrained_model",
        f"The nearest network that has some: num_layers={nearest} with resnet=post.{small} Or set weights=FILE.",
        "use_pretrained_model",
    )


def _named(request: str, wanted: NetworkHint | None, normalisation: str) -> Weights:
    place = Path(request).expanduser()
    if place.is_dir():
        return _only(_in_folder(place, wanted), place, request, wanted, normalisation)
    if place.is_file():
        return _open(place, request, wanted, normalisation)
    if is_hub_id(request) and place.suffix not in SUFFIXES:
        return _open(hub_file(request), request, wanted, normalisation)
    raise UserError(
        f"{request!r} is no file, no folder and no name on the hub (owner/name)",
        "weights",
        f"Correct the path, or name a repository such as {PUBLIC_RESNETS[18]}.",
        "weights",
    )


def _open(path: Path, origin: str, wanted: NetworkHint | None, normalisation: str) -> Weights:
    shapes = read_shapes(path)
    hint = _recognise(path, shapes, origin)
    network = hint or wanted
    if network is None:
        raise UserError(
            "which network these weights belong to cannot be told from their names",
            str(path),
            "Set backbone to timm's name of the network; or write the name as the key architecture into "
            f"{path.stem}.json beside the file.",
            "weights",
        )
    if wanted is not None and not network.fits(wanted):
        raise UserError(
            f"these weights belong to {network.label}, not to {wanted.label}",
            str(path),
            f"Choose the network that they belong to ({network.label}), or other weights.",
            "weights",
        )
    return Weights(path, origin, network, shapes, find_normalisation(path, shapes, hint, normalisation))


def _recognise(path: Path, shapes: Shapes, origin: str = "") -> NetworkHint | None:
    """By the tensors, else by the name of timm's network in the description beside the file or on the hub."""
    hint = identify(shapes)
    if hint is not None:
        return hint
    beside = description_beside(path)
    name = beside[1].get("architecture") if beside else None
    if not isinstance(name, str) and is_hub_id(origin) and origin.startswith("timm/"):
        name = origin.removeprefix("timm/")
    return NetworkHint("timm", backbone=name) if isinstance(name, str) and name else None


def _in_folder(folder: Path, wanted: NetworkHint | None) -> list[Path]:
    """The weight files in a folder and its subfolders that are recognised, and fit ``wanted`` when it is given.

    Files that cannot be read as weights are passed over; named alone, they are an error.
    Of files of the same network in one folder, which hold the same weights in two forms, safetensors is taken.
    """
    found: dict[tuple[Path, str], Path] = {}
    for path in _weight_files(folder):
        try:
            hint = _recognise(path, read_shapes(path))
        except UserError:  # folders hold other files of these suffixes too (optimizer states, programs)
            continue
        if hint is not None and (wanted is None or hint.fits(wanted)):
            twin = path.suffix != ".safetensors" and (path.parent, path.stem) in found
            if not twin:
                found[(path.parent, path.stem)] = path
    return list(found.values())


def _weight_files(folder: Path) -> list[Path]:
    """Safetensors first, then by name; in the folder and two levels below."""
    files: Iterable[Path] = (p for depth in ("*", "*/*", "*/*/*") for p in folder.glob(depth))
    weights = (p for p in files if p.suffix in SUFFIXES and p.is_file())
    return sorted(weights, key=lambda p: (p.suffix != ".safetensors", str(p)))


def _only(found: list[Path], folder: Path, origin: str, wanted: NetworkHint | None, normalisation: str) -> Weights:
    if len(found) == 1:
        return replace(_open(found[0], str(found[0]), wanted, normalisation), origin=f"{origin}: {found[0].name}")
    fitting = f" that fit {wanted.label}" if wanted else " whose network can be told"
    if not found:
        raise UserError(
            f"holds no weights{fitting} (looked for {', '.join(SUFFIXES)})", str(folder), "Name a file.", "weights"
        )
    names = ", ".join(path.name for path in found[:5])
    raise UserError(f"holds {len(found)} files{fitting}: {names}", str(folder), "Name one of them.", "weights")
