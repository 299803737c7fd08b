"""Weight files are read as tensors alone; programs, bombs and damage are refused with a word."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from foveal.errors import UserError
from foveal.weights.files import read_metadata, read_shapes, read_tensors

TENSORS = {"conv1.weight": torch.ones(2, 3), "fc.bias": torch.zeros(4)}


def saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS, "optimizer": {"lr": 0.1}},
        {"state_dict": {"fc.bias": torch.ones(1)}, "state_dict_ema": TENSORS},
        {f"module.{name}": tensor for name, tensor in TENSORS.items()},
    ],
)
def test_a_torch_file_gives_its_tensors_by_name(tmp_path: Path, content: Any, legacy: bool) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(content, legacy))
    assert read_shapes(path) == {"conv1.weight": (2, 3), "fc.bias": (4,)}
    assert torch.equal(read_tensors(path)["conv1.weight"], TENSORS["conv1.weight"])


def test_safetensors_give_tensors_and_metadata_without_our_prefix(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"body.{name}": tensor for name, tensor in TENSORS.items()}, path, {"mean": "[0, 0, 0]"})
    assert read_shapes(path) == {"conv1.weight": (2, 3), "fc.bias": (4,)}
    assert torch.equal(read_tensors(path)["fc.bias"], TENSORS["fc.bias"])
    assert read_metadata(path) == {"mean": "[0, 0, 0]"}


class Program:
    """Anything but a tensor: unpickling it would call a function."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('the file ran a program')",))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_a_program_is_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved({"fc.bias": Program()}, legacy))
    with pytest.raises(UserError) as error:
        read_tensors(path)
    assert error.value.what == "it holds more than tensors; code in it is not run"
    assert "weights_only" not in str(error.value)


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/code/__torch__.py", b"")
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(UserError, match="this is a TorchScript program") as error:
        read_tensors(path)
    assert "torch.jit.load(FILE).state_dict()" in error.value.remedy


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(UserError, match="zip entries are compressed"):
        read_tensors(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "wide.pth"
    path.write_bytes(saved({"fc.weight": torch.zeros(1).expand(100_000, 100_000)}, legacy))
    with pytest.raises(UserError, match="claims 10,000,000,000 numbers"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    for content in (b"", b"not weights at all", saved(TENSORS)[:300], saved(TENSORS, legacy=True)[:100]):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read_shapes(path)
        assert error.value.where == str(path)


def test_files_without_tensors_by_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved([torch.zeros(2)]))
    with pytest.raises(UserError, match="no tensors by name are in it"):
        read_tensors(path)


def test_other_suffixes_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in one of \.safetensors, \.pth, \.pt, \.bin, not '\.h5'"):
        read_shapes(tmp_path / "weights.h5")
    with pytest.raises(UserError, match="cannot be read"):
        read_shapes(tmp_path / "weights.pth")
