"""Archives: what is written of them, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import warnings
import zipfile
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.formats import archive as rules
from foveal.formats.archive import archive_suffix, extract, member_names

ROOM = 1 << 40  # bytes
BY_HAND = "Unpack it yourself, and name the folder."
PICTURES = {"a/1.jpg": b"one" * 1000, "a/2.jpg": b"", "b/c/3.jpg": bytes(70_000)}


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that occur twice
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in members:
                file.writestr(name, content)
    return path


def tarred(path, *members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                file.addfile(info)
    return path


def unpack(path, folder, room=ROOM):
    folder.mkdir()
    positions = list(extract(path, folder, room))
    assert all(before <= after for before, after in pairwise(positions))
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def refusal(path, folder, room=ROOM):
    folder.mkdir()
    with pytest.raises(UserError) as caught:
        list(extract(path, folder, room))
    return str(caught.value)


def test_a_member_of_a_zip_file_without_a_name_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        nameless = zipfile.ZipInfo("a")
        nameless.filename = ""
        file.writestr(nameless, b"lost")
        file.writestr("a.jpg", b"one")
    assert unpack(tmp_path / "x.zip", tmp_path / "out") == {"a.jpg": b"one"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
def test_files_are_unpacked_as_they_were(tmp_path, name):
    path = tmp_path / name
    if name.endswith("zip"):
        zipped(path, [("a/", b""), *PICTURES.items()])
    else:
        mode = {"tar": "w", "gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[name.rpartition(".")[2]]
        tarred(path, ("a", (tarfile.DIRTYPE, "")), *PICTURES.items(), mode=mode)
    assert unpack(path, tmp_path / "out") == PICTURES
    assert [each for each in member_names(path) if not each.endswith("/")] == list(PICTURES)


def test_the_first_bytes_tell_the_kind_whatever_the_name_says(tmp_path):
    assert unpack(tarred(tmp_path / "x.zip", *PICTURES.items(), mode="w:xz"), tmp_path / "a") == PICTURES
    assert unpack(zipped(tmp_path / "x.tar", PICTURES.items()), tmp_path / "b") == PICTURES


def test_several_xz_streams_are_one(tmp_path):
    content = tarred(tmp_path / "x.tar", *PICTURES.items()).read_bytes()
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(content[:5000]) + bytes(4) + lzma.compress(content[5000:]))
    assert unpack(tmp_path / "x.tar.xz", tmp_path / "out") == PICTURES


def test_hidden_files_and_those_of_macos_are_left_out(tmp_path):
    path = zipped(
        tmp_path / "x.zip", [("1.jpg", b"1"), ("__MACOSX/._1.jpg", b"2"), (".git/x", b"3"), ("./2.jpg", b"4")]
    )
    assert unpack(path, tmp_path / "out") == {"1.jpg": b"1", "2.jpg": b"4"}


def test_backslashes_part_folders(tmp_path):
    info = zipfile.ZipInfo("x")
    info.filename = "a\\1.jpg"
    assert unpack(zipped(tmp_path / "x.zip", [(info, b"1")]), tmp_path / "out") == {"a/1.jpg": b"1"}


def test_links_to_files_of_the_archive_become_those_files(tmp_path):
    path = tarred(
        tmp_path / "x.tar",
        ("links/1.jpg", (tarfile.SYMTYPE, "../a/1.jpg")),
        ("a/1.jpg", b"one"),
        ("2.jpg", (tarfile.LNKTYPE, "a/1.jpg")),
        ("3.jpg", (tarfile.SYMTYPE, "./links/1.jpg")),
    )
    assert unpack(path, tmp_path / "out") == dict.fromkeys(["links/1.jpg", "a/1.jpg", "2.jpg", "3.jpg"], b"one")
    assert not any(each.is_symlink() for each in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../1.jpg", "its name leads out of the folder it is unpacked into"),
        ("a/../../1.jpg", "its name leads out of the folder it is unpacked into"),
        ("/etc/passwd", "its name leads out of the folder it is unpacked into"),
        ("C:/1.jpg", "its name leads out of the folder it is unpacked into"),
        ("\\\\server\\share\\1.jpg", "its name leads out of the folder it is unpacked into"),
        ("n" * 256, "no file can have this name"),
    ],
)
def test_names_that_do_harm_are_refused(tmp_path, name, told):
    shown = name if len(name) < 256 else name[:255] + "..."
    path = tarred(tmp_path / "x.tar", ("ok.jpg", b"1"), (name, b"1"))
    assert refusal(path, tmp_path / "out") == f"{path}, member {shown}: {told}\n{BY_HAND}"
    path = zipped(tmp_path / "x.zip", [(name, b"1")])
    assert told in refusal(path, tmp_path / "out2")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "out2", "x.tar", "x.zip"]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("a.jpg", b""), ("A.jpg", b"")], "A.jpg: its name and a.jpg differ only in upper and lower case"),
        ([("a/1.jpg", b""), ("A/2.jpg", b"")], "A/2.jpg: its name and a differ only in upper and lower case"),
        ([("a.jpg", b""), ("a.jpg", b"")], "a.jpg: two members have this name"),
        ([("a", b""), ("a/1.jpg", b"")], "a/1.jpg: this is the name of a file and of a folder"),
        ([("a/1.jpg", b""), ("a", b"")], "a: this is the name of a file and of a folder"),
        ([("a", (tarfile.SYMTYPE, "../b"))], "a: it links to '../b', out of the archive"),
        ([("a", (tarfile.SYMTYPE, "/etc/passwd"))], "a: it links to '/etc/passwd', out of the archive"),
        ([("d/a", (tarfile.LNKTYPE, "../b"))], "d/a: it links to '../b', out of the archive"),
        ([("a", (tarfile.SYMTYPE, "b"))], "a: it links to 'b', no file of the archive"),
        ([("a", (tarfile.SYMTYPE, "a"))], "a: it links to 'a', no file of the archive"),
        (
            [("b/1.jpg", b""), ("a", (tarfile.SYMTYPE, "b"))],
            "a: it links to 'b', no file of the archive",
        ),
        ([("a", (tarfile.CHRTYPE, ""))], "a: it is a device, and only files, folders and links are unpacked"),
        ([("a", (tarfile.FIFOTYPE, ""))], "a: it is a pipe, and only files, folders and links are unpacked"),
        ([("a", (b"S", ""))], "a: it is a sparse file, and only files, folders and links are unpacked"),
        ([("a", (b"V", ""))], "a: it is of an unknown kind, and only files, folders and links are unpacked"),
    ],
)
def test_members_that_do_harm_are_refused(tmp_path, members, told):
    path = tarred(tmp_path / "x.tar", *members)
    remedy = "On many disks these are one: rename one of them." if "upper" in told else BY_HAND
    assert refusal(path, tmp_path / "out") == f"{path}, member {told}\n{remedy}"


@pytest.mark.parametrize(
    ("mode", "content", "told"),
    [
        (stat.S_IFLNK, b"../1.jpg", "it links to '../1.jpg', out of the archive"),
        (stat.S_IFLNK, b"x" * 5000, "it is a link to no name a file can have"),
        (stat.S_IFBLK, b"", "it is a device or pipe, and only files, folders and links are unpacked"),
    ],
)
def test_links_and_devices_of_zip_files_are_refused_too(tmp_path, mode, content, told):
    info = zipfile.ZipInfo("a")
    info.external_attr = mode << 16
    path = zipped(tmp_path / "x.zip", [(info, content)])
    assert refusal(path, tmp_path / "out") == f"{path}, member a: {told}\n{BY_HAND}"


@pytest.mark.parametrize(
    ("start", "told", "remedy"),
    [
        (b"", "the file is empty", "Copy or download it again."),
        (b"7z\xbc\xaf\x27\x1c...", "this is a 7z archive, which isn't read", BY_HAND),
        (b"Rar!\x1a\7\1", "this is a RAR archive, which isn't read", BY_HAND),
        (b"(\xb5/\xfd....", "this is a Zstandard archive, which isn't read", BY_HAND),
        (
            b"<html>404",
            "this is no archive: it begins like none",
            "Copy or download it again, or rename it for what it is.",
        ),
        (bytes(10240), "the archive is empty", "Pack the pictures again."),
        (b"PK\5\6" + bytes(18), "the archive is empty", "Pack the pictures again."),
        (b"PK\3\4" + bytes(100), "can't be unpacked: File is not a zip file", "Copy or download it again."),
    ],
)
def test_what_is_no_archive_is_told(tmp_path, start, told, remedy):
    (tmp_path / "x.zip").write_bytes(start)
    assert refusal(tmp_path / "x.zip", tmp_path / "out") == f"{tmp_path}/x.zip: {told}\n{remedy}"


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_cut_archive_is_told_wherever_it_is_cut(tmp_path, suffix):
    noise = bytes(range(256)) * 40
    path = tmp_path / f"x.{suffix}"
    if suffix == "zip":
        zipped(path, [("1.jpg", noise), ("2.jpg", noise)])
    else:
        tarred(path, ("1.jpg", noise), ("2.jpg", noise), mode="w:" + suffix.partition(".")[2])
    content = path.read_bytes()
    length = 2 * (512 + len(noise))  # of a tar file without its end mark
    for number, end in enumerate((len(content) // 3, len(content) // 2, min(length, len(content)) - 20)):
        path.write_bytes(content[:end])
        told = refusal(path, tmp_path / str(number))
        assert told.startswith(f"{path}") and "can't be unpacked: " in told
        assert told.endswith("\nCopy or download it again.")


def test_a_damaged_header_is_told_with_its_place(tmp_path):
    path = tarred(tmp_path / "x.tar", ("1.jpg", b"1"), ("2.jpg", b"2"))
    content = bytearray(path.read_bytes())
    content[1030] ^= 1
    path.write_bytes(content)
    assert refusal(path, tmp_path / "out") == (
        f"{path}: can't be unpacked: at byte 1,024: no header of a tar file: its checksum is wrong\n"
        "Copy or download it again."
    )


def test_an_overwritten_picture_in_a_zip_file_is_found_by_its_checksum(tmp_path):
    path = zipped(tmp_path / "x.zip", [("1.jpg", b"one" * 100)], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"oneone", b"twotwo", 1))
    told = "can't be unpacked: Bad CRC-32 for file '1.jpg'"
    assert refusal(path, tmp_path / "out") == f"{path}, member 1.jpg: {told}\nCopy or download it again."


def test_an_encrypted_archive_is_told(tmp_path):
    path = zipped(tmp_path / "x.zip", [("1.jpg", b"1")], zipfile.ZIP_STORED)
    content = path.read_bytes()
    directory = content.index(b"PK\1\2")
    path.write_bytes(content[:6] + b"\1" + content[7 : directory + 8] + b"\1" + content[directory + 9 :])
    assert refusal(path, tmp_path / "out") == f"{path}, member 1.jpg: it is encrypted\n{BY_HAND}"


def test_methods_of_compression_that_are_not_read_are_told(tmp_path):
    path = zipped(tmp_path / "x.zip", [("1.jpg", b"1")], zipfile.ZIP_LZMA)
    told = "it is compressed by zip's method 14, which isn't read"
    assert refusal(path, tmp_path / "out") == f"{path}, member 1.jpg: {told}\n{BY_HAND}"


def test_an_archive_made_to_fill_the_disk_is_refused_while_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "ALWAYS_ALLOWED", 1 << 20)
    for suffix, mode in (("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")):
        path = tarred(tmp_path / f"x.{suffix}", ("1.jpg", bytes(40 << 20)), mode=mode)
        packed = path.stat().st_size
        most = max(1 << 20, 100 * packed)
        assert refusal(path, tmp_path / suffix) == (
            f"{path}: it has {packed:,} bytes and unpacks to more than {most:,}, as only an archive "
            "made to fill a disk does\nIf it is sound: unpack it yourself, and name the folder."
        )
        written = sum(each.stat().st_size for each in (tmp_path / suffix).rglob("*") if each.is_file())
        assert written <= most


def test_bytes_are_counted_and_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "ALWAYS_ALLOWED", 1 << 20)
    path = zipped(tmp_path / "x.zip", [("1.jpg", bytes(40 << 20))])
    assert "as only an archive made to fill a disk does" in refusal(path, tmp_path / "told")
    content = path.read_bytes()
    directory = content.index(b"PK\1\2")
    path.write_bytes(content[: directory + 24] + (5).to_bytes(4, "little") + content[directory + 28 :])
    assert "can't be unpacked: " in refusal(path, tmp_path / "out")  # zipfile stops where the directory says
    assert sum(each.stat().st_size for each in (tmp_path / "out").iterdir()) <= 5


def test_a_header_that_announces_a_giant_takes_no_memory(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 200 << 30
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    assert refusal(path, tmp_path / "out") == (
        f"{path}: can't be unpacked: at byte 0: 214,748,364,800 bytes are no name\nCopy or download it again."
    )


def test_xz_that_asks_for_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    content = lzma.compress(b"x" * 2000, filters=filters)
    (tmp_path / "x.tar.xz").write_bytes(content)
    assert refusal(tmp_path / "x.tar.xz", tmp_path / "out") == (
        f"{tmp_path}/x.tar.xz: can't be unpacked: Memory usage limit exceeded\nCopy or download it again."
    )


def test_more_than_the_disk_has_left_is_refused(tmp_path):
    path = tarred(tmp_path / "x.tar", ("1.jpg", bytes(5000)))
    out = tmp_path / "out"
    assert refusal(path, out, room=4000) == (
        f"{path}: unpacked it has more than the 4,000 bytes that are free in {out}\n"
        "Make room, or let XDG_CACHE_HOME name a folder on a larger disk."
    )
    path = zipped(tmp_path / "x.zip", [("1.jpg", bytes(5000))])
    assert "more than the 4,000 bytes" in refusal(path, tmp_path / "out2", room=4000)
    assert list((tmp_path / "out2").iterdir()) == []


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "MOST_MEMBERS", 3)
    members = [(f"{number}.jpg", b"") for number in range(4)]
    for path in (zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tar", *members)):
        assert refusal(path, tmp_path / path.suffix) == f"{path}: it has more than 3 members\n{BY_HAND}"


def test_a_directory_of_a_zip_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "_LARGEST_DIRECTORY", 100)
    path = zipped(tmp_path / "x.zip", [(f"{number}.jpg", b"") for number in range(2)])
    assert refusal(path, tmp_path / "out") == f"{path}: its directory takes 102 bytes\n{BY_HAND}"


def test_an_archive_that_can_not_be_opened_is_told(tmp_path):
    path = tmp_path / "x.zip"
    assert refusal(path, tmp_path / "out") == (
        f"{path}: can't be opened: No such file or directory\nCheck the path and who may read it."
    )
    assert list(member_names(path)) == []


def test_suffixes():
    names = {"a.zip": ".zip", "A.ZIP": ".zip", "a.tar.gz": ".tar.gz", "a.b.tgz": ".tgz", "a.gz": "", "tar": ""}
    assert {name: archive_suffix(rules.Path(name)) for name in names} == names


def seeds():
    members = [("a/1.jpg", b"one" * 300), ("n/" * 60 + "m" * 60, b"y"), ("s", (tarfile.SYMTYPE, "a/1.jpg"))]
    plain, file = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members[:2]:
            archive.writestr(name, content)
        archive.writestr(zipfile.ZipInfo("x/"), b"")
    tar = plain.getvalue()
    return [file.getvalue(), tar, gzip.compress(tar), bz2.compress(tar), lzma.compress(tar)]


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(seeds()),
    st.lists(st.tuples(st.integers(0, 11_000), st.binary(min_size=1, max_size=8)), max_size=5),
    st.integers(0, 12_000),
)
def test_whatever_the_bytes_are_only_our_errors_come_out_and_nothing_is_written_elsewhere(
    tmp_path_factory, seed, changes, length
):
    root = tmp_path_factory.mktemp("fuzz")
    content = bytearray(seed)
    for place, piece in changes:
        place %= len(content)
        content[place : place + len(piece)] = piece
    path, out = root / "x.zip", root / "out"
    path.write_bytes(content[:length])
    out.mkdir()
    try:
        list(extract(path, out, ROOM))
    except UserError as error:
        assert str(error).startswith(str(path))
    assert sorted(each.name for each in root.iterdir()) == ["out", "x.zip"]
    list(member_names(path))
