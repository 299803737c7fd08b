"""Headers of tar files: held against what Python's tarfile writes and reads."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.formats.recordio import Damage
from foveal.formats.tar import BLOCK, Member, begins_like_tar, scan, walk

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def packed(*members, form=tarfile.GNU_FORMAT):
    """A tar file of (name, content) and of ``TarInfo``."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["1.jpg", "a/" * 45 + "1.jpg", "über/" * 8 + "1.jpg", "n" * 90 + "/" + "m" * 90])
def test_names_and_places_are_those_that_tarfile_tells(name, form):
    content = packed((name, b"x" * 700), ("2.jpg", b""), form=form)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        expected = [(each.name, "file", each.offset_data, each.size) for each in archive]
    assert [(each.name, each.kind, each.start, each.size) for each in scan(content)] == expected


def test_very_long_names_are_read():
    name = "/".join(["folder" * 10] * 10)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert [each.name for each in scan(packed((name, b"1"), ("b", b"2"), form=form))] == [name, "b"]


def test_kinds_are_told():
    found = list(
        scan(
            packed(
                special("d", tarfile.DIRTYPE),
                special("s", tarfile.SYMTYPE, "../x"),
                special("h", tarfile.LNKTYPE, "d/1"),
                special("c", tarfile.CHRTYPE),
                special("b", tarfile.BLKTYPE),
                special("p", tarfile.FIFOTYPE),
            )
        )
    )
    assert [(each.name, each.kind) for each in found] == [
        ("d/", "folder"), ("s", "link"), ("h", "hard link"), ("c", "device"), ("b", "device"), ("p", "pipe"),
    ]  # fmt: skip
    assert (found[1].target, found[2].target) == ("../x", "d/1")


def test_sparse_files_and_sizes_beyond_eight_gigabytes_are_told():
    info = tarfile.TarInfo("big")
    info.size = 20 << 30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        content = info.tobuf(form)
        assert [(each.kind, each.size) for each in walk(io.BytesIO(content))] == [("file", 20 << 30)]
    info.pax_headers = {"GNU.sparse.major": "1"}
    assert [each.kind for each in walk(io.BytesIO(info.tobuf(tarfile.PAX_FORMAT)))] == ["sparse file"]


def test_a_file_put_behind_another_is_read_too_and_what_is_no_tar_behind_the_end_is_not():
    content = packed(("1", b"1")) + packed(("2", b"2")) + b"signature" * 100
    assert [each.name for each in scan(content)] == ["1", "2"]


def test_a_cut_file_tells_what_is_missing():
    content = packed(("1", b"x" * 600), ("2", b"y" * 600))[: 4 * BLOCK + 100]
    first, second = scan(content)
    assert (first.name, second) == (
        "1",
        Damage(1536, 2148, "cut short: 600 bytes are announced, the file ends after 100"),
    )
    first, second = scan(content[:1600])
    assert second == Damage(1536, 1600, "cut short: 64 bytes at the end are no header")


def test_reading_goes_on_behind_an_overwritten_header():
    content = bytearray(packed(("1", b"x" * 600), ("2", b"y" * 600), ("3", b"z")))
    content[1540] ^= 255
    one, damage, three = scan(bytes(content))
    assert (one.name, three.name) == ("1", "3")
    assert damage == Damage(1536, three.offset, "no header of a tar file: its checksum is wrong")


def test_the_beginning_tells_a_tar_file():
    assert begins_like_tar(packed(("1", b"1"))[:BLOCK])
    assert not any(map(begins_like_tar, [b"", bytes(BLOCK), b"\xff\xd8" * 256, b"PK\3\4"]))


SEEDS = [
    packed(
        ("a/1.jpg", b"x" * 700),
        ("a/1.cls", b"3"),
        ("n/" * 60 + "m" * 60, b"y"),
        special("s", tarfile.SYMTYPE, "a"),
        form=form,
    )
    for form in FORMATS
]


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=12)), max_size=6),
    st.integers(0, 11_000),
)
def test_whatever_the_bytes_are_members_and_damage_lie_inside_the_file_in_order(seed, changes, length):
    content = bytearray(seed)
    for place, piece in changes:
        content[place : place + len(piece)] = piece
    content = bytes(content[:length])
    end = 0
    for found in scan(content):
        assert found.offset >= end
        end = found.start + found.size if isinstance(found, Member) else found.end
        assert end <= len(content)
