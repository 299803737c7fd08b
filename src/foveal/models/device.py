"""Which processor computes, and in which precision; each choice comes with the reason, for the user to read."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from foveal.errors import UserError


@dataclass(frozen=True)
class Device:
    """``said`` tells what was chosen and why, in one line."""

    device: torch.device
    said: str


@dataclass(frozen=True)
class Precision:
    """``autocast`` is the type that products are computed in, or None for float32; ``scale`` asks for loss scaling."""

    autocast: torch.dtype | None
    scale: bool
    said: str


def choose_device(asked: str) -> Device:
    """``auto`` takes a CUDA card, else Apple's MPS, else the CPU. Raises UserError when it is missing."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if asked.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(
                "device=cuda was asked for, but torch sees no CUDA card"
                + ("" if torch.version.cuda else " (this torch is a build without CUDA)"),
                "device",
                "Install a CUDA build of torch (pytorch.org/get-started), or set device=auto.",
                "device",
            )
        return Device(torch.device(asked), f"device: {torch.cuda.get_device_name(torch.device(asked))} ({asked})")
    if asked == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(
                "device=mps was asked for, but there is no Apple GPU", "device", "Set device=auto.", "device"
            )
        return Device(torch.device("mps"), "device: Apple GPU (mps)")
    threads = torch.get_num_threads()
    return Device(torch.device("cpu"), f"device: cpu with {threads} thread{'s' * (threads != 1)}")


def choose_precision(asked: str, device: torch.device) -> Precision:
    """``float16`` means mixed precision: bfloat16 where the hardware computes in it, else float16 with loss scaling
    on cards, else float32, and the reason."""
    if asked == "float32":
        return Precision(None, False, "precision: float32")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, False, "precision: mixed, bfloat16 (this card computes in it)")
        return Precision(torch.float16, True, "precision: mixed, float16 with loss scaling (no bfloat16 on this card)")
    if device.type == "mps":
        return Precision(torch.float16, False, "precision: mixed, float16")
    if _cpu_has_bfloat16():
        return Precision(torch.bfloat16, False, "precision: mixed, bfloat16 (this CPU computes in it)")
    return Precision(
        None, False, "precision: float32 instead of float16, because this CPU has neither avx512_bf16 nor amx"
    )


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to where it computes; filters channels-last, which pictures are already."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _cpu_has_bfloat16() -> bool:
    """Products in bfloat16 are quick with avx512_bf16 or amx; elsewhere they are slower than float32."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="ascii", errors="replace") if flags.exists() else ""
    return " avx512_bf16" in text or " amx_bf16" in text
