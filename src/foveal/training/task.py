"""In what classification and detection differ when a run is set up: plain functions, one set for each.

The loop knows nothing of this; what it needs to know of an algorithm is in ``foveal.algorithms.algorithm``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from foveal.algorithms import classification, detection
from foveal.algorithms.algorithm import Algorithm
from foveal.algorithms.costs import balanced_weights, positive_weights
from foveal.algorithms.detection_recipe import resolve_detection
from foveal.algorithms.recipe import Resolved, read_task, resolve
from foveal.artifact import Artifact
from foveal.data.facts import Facts
from foveal.data.views import Preprocessing
from foveal.models.detector import SMALLEST_VGG, VGG, Detector, DetectorSpec, build_detector
from foveal.models.network import ClassificationNetwork, NetworkSpec, build
from foveal.models.suppression import Rule
from foveal.mxnet import resnet
from foveal.mxnet.ssd import frozen_names
from foveal.records import Dataset, TaskName
from foveal.settings import ClassificationSettings, DetectionSettings, Settings
from foveal.training.events import Listener
from foveal.training.layers import layer_multipliers
from foveal.training.optimizers import build_optimizer
from foveal.training.pictures import Pictures, check_boxes, check_pictures

PLAIN_AT_LAST = 0.15  # of the epochs, in which pictures are no mosaics, as those that are asked about are none
COCO_EACH_EPOCH = 2_000  # validation pictures up to which COCO's figures are counted every epoch: some seconds

Spec = NetworkSpec | DetectorSpec
Network = ClassificationNetwork | Detector


@dataclass(frozen=True)
class Task:
    """One of the two algorithms.

    Attributes:
        name: as in settings and artifacts.
        labels: what its pictures carry.
        read_settings, read_spec: stored dicts -> settings and network specification.
        read_data: (settings, names of those given, what the pictures carry, origin of the data) -> settings with what
            the data alone decides, and a line for each doubt.
        check: labels checked, classes named, validation set aside.
        resolve: what the recipe leaves open is decided.
        build: specification -> network with starting weights from torch's global generator.
        teach: (settings, rule, pictures, loader threads) -> the functions that the loop needs.
        renew: (network, recipe) -> None: after pretrained weights are loaded, what is new is made ready.
        optimizer: (network, settings) -> the optimizer, with the parameters' own factors on rate and decay.
        freeze: (network, settings) -> names of parameters that are not to learn.
    """

    name: str
    labels: Literal["classes", "boxes"]
    read_settings: Callable[[Mapping[str, Any]], Settings]
    read_spec: Callable[[Mapping[str, Any]], Spec]
    read_data: Callable[[Any, frozenset[str], TaskName, str], tuple[Any, tuple[str, ...]]]
    check: Callable[[Dataset, Any, Listener], Pictures]
    resolve: Callable[[Any, frozenset[str], Facts, int, int, torch.device, Artifact | None], Resolved]
    build: Callable[[Any], Network]
    teach: Callable[[Any, Preprocessing, Pictures, int], Algorithm]
    renew: Callable[[Any, str], None]
    optimizer: Callable[[Any, Any], torch.optim.Optimizer]
    freeze: Callable[[Any, Any], tuple[str, ...]]


def _teach_classes(
    settings: ClassificationSettings, rule: Preprocessing, pictures: Pictures, workers: int
) -> Algorithm:
    several, count = pictures.several, len(pictures.class_names)
    weights = None
    if several and settings.use_weighted_loss:
        weights = positive_weights(pictures.labels, len(pictures.train), count)
    elif settings.class_weights == "auto":
        weights = balanced_weights(pictures.labels, count)
    teaching = classification.Teaching(
        settings.augmentation_type,
        settings.flip,
        settings.random_erasing,
        settings.mixup,
        settings.cutmix,
        settings.label_smoothing,
        weights,
    )
    judging = classification.Judging(
        pictures.class_names,
        several,
        settings.top_k,
        settings.calibrate,
        objective="mAP" if several and settings.recipe == "modern" else "accuracy",
    )
    return classification.classification(rule, teaching, judging, workers)


def _freeze_classes(network: ClassificationNetwork, settings: ClassificationSettings) -> tuple[str, ...]:
    if not settings.freeze_layer_pattern:
        return ()
    return resnet.frozen_names(network, network.spec.family == "resnet", settings.freeze_layer_pattern)


def _renew_classes(network: ClassificationNetwork, recipe: str) -> None:
    """A new last layer starts at zero in ``modern``, so that random answers do not shake the weights taken over."""
    if recipe == "modern":
        for name in network.classifier_names:
            nn.init.zeros_(network.get_parameter(name))


def _optimize_classes(network: ClassificationNetwork, settings: ClassificationSettings) -> torch.optim.Optimizer:
    assert settings.learning_rate is not None and settings.optimizer is not None and settings.weight_decay is not None
    decay_norm = settings.recipe == "original"
    return build_optimizer(
        network.named_parameters(),
        settings.optimizer,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        eps=settings.eps,
        gamma=settings.gamma,
        decay_norm=decay_norm,
        multipliers=layer_multipliers(network, settings.layer_decay, decay_norm) if settings.layer_decay < 1 else None,
    )


def _optimize_boxes(network: Detector, settings: DetectionSettings) -> torch.optim.Optimizer:
    """What the optimizers want besides has MXNet's defaults: the original exposes none of it (reference 2.2)."""
    assert settings.learning_rate is not None and settings.optimizer is not None and settings.weight_decay is not None
    return build_optimizer(
        network.named_parameters(),
        settings.optimizer,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay_norm=settings.recipe == "original",
        decayed=settings.DECAYED,
        multipliers=network.multipliers(),
    )


def _teach_boxes(settings: DetectionSettings, rule: Preprocessing, pictures: Pictures, workers: int) -> Algorithm:
    coco = None if len(pictures.validation or ()) <= COCO_EACH_EPOCH else False
    assert settings.epochs is not None and settings.image_shape is not None
    least = SMALLEST_VGG if (settings.head, settings.base_network) == ("ssd", VGG) else detection.SIDE_STEP
    reach = settings.multi_scale
    teaching = detection.Teaching(
        settings.head,
        settings.augmentation_type,
        settings.flip,
        settings.negatives_per_empty_picture,
        balanced_weights(pictures.labels, len(pictures.class_names)) if settings.class_weights == "auto" else None,
        settings.mosaic if settings.augmentation_type != "none" else 0.0,
        math.ceil(settings.epochs * (1 - PLAIN_AT_LAST)),
        detection.sides_around(settings.image_shape, reach, least) if reach else (),
    )
    judging = detection.Judging(pictures.class_names, settings.overlap_threshold, settings.ap_form, coco=coco)
    return detection.detection(rule, teaching, Rule(settings.nms_threshold, settings.nms_topk), judging, workers)


def _freeze_boxes(network: Detector, settings: DetectionSettings) -> tuple[str, ...]:
    return frozen_names(network, settings.freeze_layer_pattern) if settings.freeze_layer_pattern else ()


CLASSIFICATION = Task(
    name=classification.NAME,
    labels="classes",
    read_settings=ClassificationSettings.from_dict,
    read_spec=NetworkSpec.from_dict,
    read_data=read_task,
    check=check_pictures,
    resolve=resolve,
    build=build,
    teach=_teach_classes,
    renew=_renew_classes,
    optimizer=_optimize_classes,
    freeze=_freeze_classes,
)

DETECTION = Task(
    name=detection.NAME,
    labels="boxes",
    read_settings=DetectionSettings.from_dict,
    read_spec=DetectorSpec.from_dict,
    read_data=lambda settings, given, task, origin: (settings, ()),
    check=check_boxes,
    resolve=resolve_detection,
    build=build_detector,
    teach=_teach_boxes,
    renew=lambda network, recipe: None,
    optimizer=_optimize_boxes,
    freeze=_freeze_boxes,
)

TASKS = (CLASSIFICATION, DETECTION)
