"""Which processor computes, and in which precision; each choice comes with the reason, for the user to read."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from foveal.errors import UserError
from foveal.models.convolution import needs_quick_convolutions, quick_convolutions


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


def choose_device(asked: str, rank: int | None = None) -> Device:
    """Choose by name.

    Args:
        asked: ``cpu``, ``mps`` (Apple's), ``cuda``, ``cuda:1`` (the second card), or ``auto``: a CUDA card, else MPS,
            else the CPU.
        rank: of several processes of this machine, which one this is, from 0: each takes a card of its own.

    Raises:
        UserError: for another name, and when the device is not there.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if asked == "cuda" and rank is not None:
        asked = f"cuda:{rank}"
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", asked):
        raise UserError(
            f"{asked!r} is no device",
            "device",
            "Choose auto, cpu, cuda, cuda:N (card N, from 0) or mps.",
            "device",
        )
    if asked.startswith("cuda"):
        _check_card(asked)
        return Device(torch.device(asked), f"device: {torch.cuda.get_device_name(torch.device(asked))} ({asked})")
    if asked == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("no Apple GPU was found (mps)", "device", "Set device=auto.", "device")
        return Device(torch.device("mps"), "device: Apple GPU (mps)")
    threads = torch.get_num_threads()
    return Device(torch.device("cpu"), f"device: cpu with {threads} thread{'s' * (threads != 1)}")


def _check_card(asked: str) -> None:
    """Raise UserError unless torch sees the CUDA card, or any where no number is given."""
    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else " (this torch is a build without CUDA)"
        raise UserError(
            f"no CUDA card was found{build}",
            "device",
            "Install a CUDA build of torch (pytorch.org/get-started), or set device=auto.",
            "device",
        )
    count = torch.cuda.device_count()
    if int(asked.partition(":")[2] or 0) >= count:
        raise UserError(
            f"no card {asked} was found: there {'is' if count == 1 else 'are'} {count}, counted from cuda:0",
            "device",
            "Choose one of them, set device=auto, or start as many processes as there are cards.",
            "device",
        )


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
    if device.type == "cpu" and needs_quick_convolutions():
        quick_convolutions(network)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _cpu_has_bfloat16() -> bool:
    """Products in bfloat16 are quick with avx512_bf16 or amx; elsewhere they are slower than float32."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="ascii", errors="replace") if flags.exists() else ""
    return " avx512_bf16" in text or " amx_bf16" in text
