"""MXNet's files: the arrays of ``.params`` and the names that its ResNets give them."""

from __future__ import annotations

from foveal.mxnet.params import read_params

__all__ = ["read_params"]
