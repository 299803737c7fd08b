"""Pretrained weights: where they come from, which network they belong to, how they get into one of ours."""

from __future__ import annotations

from foveal.weights.find import Weights, find_weights
from foveal.weights.hub import NoWeights
from foveal.weights.identify import NetworkHint, hint_of, identify
from foveal.weights.load import LoadReport, detector_for, load_pretrained, network_for

__all__ = [
    "LoadReport",
    "NetworkHint",
    "NoWeights",
    "Weights",
    "detector_for",
    "find_weights",
    "hint_of",
    "identify",
    "load_pretrained",
    "network_for",
]
