"""The reader of .params against files that MXNet 1.9.1 wrote and its answers."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.mxnet import read_params

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "mxnet" / "params"
GOOD: dict[str, Any] = json.loads((FOLDER / "good.json").read_text())["files"]
BROKEN: dict[str, Any] = json.loads((FOLDER / "broken.json").read_text())["cases"]
OLD = {"v0_dict", "v0_list", "v1_dict", "versions_mixed"}
SPARSE = {
    name
    for name, case in GOOD.items()
    if any(array.get("stype", "default") != "default" for array in case["mxnet_load"]["arrays"])
}
NEEDS_NUMPY_SHAPES = {"array_magic_v3", "v2_in_np_shape"}  # refusals of a switch that MXNet has and we do not
# One array, b = (1, 2) in float32, as section 6.9 of the reference spells it.
ONE = bytes.fromhex(
    "1201000000000000 0000000000000000 0100000000000000 c9fa93f9 00000000 01000000 0200000000000000 01000000 00000000"
    "00000000 0000803f 00000040 0100000000000000 0500000000000000 6172673a62"
)


def test_one_array_is_read_with_its_stored_name(tmp_path: Path) -> None:
    (tmp_path / "one.params").write_bytes(ONE)
    arrays = read_params(tmp_path / "one.params")
    assert list(arrays) == ["arg:b"]
    assert arrays["arg:b"].dtype == np.float32
    assert arrays["arg:b"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", sorted(set(GOOD) - OLD - SPARSE))
def test_names_dtypes_shapes_and_bytes_equal_mxnets(name: str) -> None:
    stored = GOOD[name]["mxnet_load"]
    arrays = read_params(FOLDER / GOOD[name]["file"])
    names = [a["name"] if stored["kind"] == "dict" else str(i) for i, a in enumerate(stored["arrays"])]
    assert list(arrays) == names
    for array, expected in zip(arrays.values(), stored["arrays"], strict=True):
        assert array.dtype.name == expected["dtype"]
        assert list(array.shape) == expected["shape"]
        assert hashlib.sha256(array.tobytes()).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_sparse_arrays_are_refused_with_their_kind(name: str) -> None:
    with pytest.raises(UserError, match=r"is sparse \((row_sparse|csr)\)"):
        read_params(FOLDER / GOOD[name]["file"])


@pytest.mark.parametrize("name", sorted(OLD))
def test_layouts_before_mxnet_1_are_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=r"has the layout V[01], of MXNet before 1\.0"):
        read_params(FOLDER / GOOD[name]["file"])


@pytest.mark.parametrize("name", sorted(set(BROKEN) - NEEDS_NUMPY_SHAPES))
def test_damaged_files_are_refused_or_read_as_mxnet_does(name: str, tmp_path: Path) -> None:
    with np.load(FOLDER / "broken.npz") as contents:
        (tmp_path / "broken.params").write_bytes(contents[name].tobytes())
    expected = BROKEN[name]["mxnet_load"]
    try:
        arrays = read_params(tmp_path / "broken.params")
    except UserError as error:
        assert "broken.params" in str(error)
        return
    if name == "name_nul":  # MXNet's C strings end there, ours do not
        return
    assert [a["sha256"] for a in expected["arrays"]] == [
        hashlib.sha256(a.tobytes()).hexdigest() for a in arrays.values()
    ]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = (FOLDER / "truncation_base.params").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.params").write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_params(tmp_path / "cut.params")


def test_the_error_names_field_and_place(tmp_path: Path) -> None:
    (tmp_path / "cut.params").write_bytes(ONE[:70])
    with pytest.raises(UserError) as error:
        read_params(tmp_path / "cut.params")
    assert str(error.value).splitlines()[0] == (
        f"{tmp_path / 'cut.params'}: the number of names: 8 bytes expected, 6 left (at byte 64 of 70)"
    )


@pytest.mark.parametrize("bytes_per_side", [2**40, 2**62])
def test_sizes_are_bounded_by_the_file_before_memory_is_taken(tmp_path: Path, bytes_per_side: int) -> None:
    (tmp_path / "huge.params").write_bytes(ONE.replace(struct.pack("<iq", 1, 2), struct.pack("<iq", 1, bytes_per_side)))
    with pytest.raises(UserError, match=r"bytes expected|no array can have the shape"):
        read_params(tmp_path / "huge.params")


@pytest.mark.parametrize("name", ["missing.params", ""])
def test_what_is_no_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_params(tmp_path / name)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(ONE) - 1), value=st.integers(0, 255))
def test_any_changed_byte_ends_in_arrays_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.params"
    path.write_bytes(ONE[:place] + bytes([value]) + ONE[place + 1 :])
    try:
        arrays = read_params(path)
    except UserError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
