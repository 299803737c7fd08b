"""WebDataset shards."""

from __future__ import annotations

import io
import json
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.errors import BadPicture, UserError
from foveal.formats.webdataset import expand_shards, looks_like_webdataset, read_webdataset
from foveal.records import BadRecord, BoxSource, Remark


def shard(path, *members):
    """A tar file of (name, content); what is neither bytes nor text becomes JSON."""
    with tarfile.open(path, "w") as file:
        for name, content in members:
            if not isinstance(content, bytes):
                content = (content if isinstance(content, str) else json.dumps(content)).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def labelled(path, suffix, *contents):
    pairs = [((f"{n:03d}.jpg", b"picture %d" % n), (f"{n:03d}.{suffix}", each)) for n, each in enumerate(contents)]
    return shard(path, *(member for pair in pairs for member in pair))


def read(*paths, **options):
    return read_webdataset(paths, **options)[0]


def refusal(*paths, **options):
    with pytest.raises(UserError) as caught:
        read(*paths, **options)
    return str(caught.value)


def test_numbers_in_cls(tmp_path):
    one, two = labelled(tmp_path / "a.tar", "cls", "3", "0\n"), labelled(tmp_path / "b.tar", "cls", " 1")
    source, said = read_webdataset([one, two])
    assert not isinstance(source, BoxSource)
    assert (source.form, source.class_names, source.labels().values.tolist(), said) == (
        "webdataset", None, [3, 0, 1], ("labels by .cls",),
    )  # fmt: skip
    sample = source.read(2)
    assert (sample.key, sample.picture, sample.label) == ("b.tar/000.jpg", b"picture 0", 1)
    assert source.where(1) == "a.tar, 001.jpg at byte 2560"
    assert one.read_bytes()[2560:2569] == b"picture 1"
    with pytest.raises(IndexError):
        source.read(3)


def test_names_of_numbers_stand_in_txt_or_json(tmp_path):
    members = [("1.jpg", b""), ("1.cls", "1"), ("1.txt", "dog\n"), ("2.cls", "0"), ("2.jpg", b""), ("2.txt", "cat")]
    assert read(shard(tmp_path / "a.tar", *members)).class_names == ("cat", "dog")
    captions = [*members, ("3.jpg", b""), ("3.cls", "0"), ("3.txt", "a cat in the sun")]
    assert read(shard(tmp_path / "b.tar", *captions)).class_names is None
    rows = [{"label": 1, "class_name": "dog"}, {"label": 0, "class_name": "cat"}]
    assert read(labelled(tmp_path / "c.tar", "json", *rows)).class_names == ("cat", "dog")
    assert read(labelled(tmp_path / "c.tar", "json", *rows), class_names=("x", "y")).class_names == ("x", "y")


def test_names_in_txt_and_json(tmp_path):
    for path, source in (
        (tmp_path / "a.tar", ("txt", "dog", "cat\n")),
        (tmp_path / "b.tar", ("json", {"label": "dog"}, {"label": "cat"})),
        (tmp_path / "c.tar", ("json", '"dog"', '"cat"')),
    ):
        found = read(labelled(path, *source))
        assert (found.class_names, found.labels().values.tolist()) == (("cat", "dog"), [1, 0])


def test_several_labels(tmp_path):
    source = read(labelled(tmp_path / "a.tar", "json", {"label": [0, 1, 1]}, {"label": [0, 0, 0]}))
    assert source.read(0).label.tolist() == [0, 1, 1]
    assert source.read(0).label.dtype == np.float32


def test_objects_in_json(tmp_path):
    rows = [{"objects": {"bbox": [[1, 2, 3, 4]], "categories": ["dog"]}, "label": 3}, {"objects": []}]
    path = labelled(tmp_path / "a.tar", "json", *rows)
    source = read(path)
    assert isinstance(source, BoxSource)
    assert (source.boxes(0).values.tolist(), source.boxes(0).unit, source.class_names) == (
        [[1, 2, 4, 6]],
        "pixel",
        ("dog",),
    )
    assert (source.read(1).picture, len(source.read(1).label.cls)) == (b"picture 1", 0)
    assert read(path, class_names=("cat", "dog")).boxes(0).cls.tolist() == [1]
    assert "the class dog is not among the known classes (cat)" in refusal(path, class_names=("cat",))
    assert read(shard(path, *[("1.jpg", b""), ("1.json", rows[0])]), task="classes").labels().values.tolist() == [3]


def test_the_first_dot_ends_the_name_and_folders_belong_to_it(tmp_path):
    members = [
        ("a/1.jpg", b"one"), ("a/1.seg.png", b"no"), ("a/1.cls", "0"), ("b/1.CLS", "1"), ("b/1.PNG", b"two"),
        ("b/.hidden.jpg", b""), ("readme.md", "x"),
    ]  # fmt: skip
    source = read(shard(tmp_path / "a.tar", *members))
    assert [source.read(row).picture for row in range(len(source))] == [b"one", b"two"]
    assert [source.read(row).key for row in range(len(source))] == ["a.tar/a/1.jpg", "a.tar/b/1.PNG"]


def test_what_can_not_be_used_is_left_out_and_named(tmp_path):
    members = [
        ("1.jpg", b""), ("1.cls", "0"), ("2.jpg", b""), ("3.jpg", b""), ("3.cls", ""), ("4.cls", "1"),
        ("5.jpg", b""), ("5.jpg", b""), ("6.jpg", b""), ("6.cls", b"\xff"), ("7.jpg", b""), ("7.json", "{"),
    ]  # fmt: skip
    source, said = read_webdataset([shard(tmp_path / "a.tar", *members)])
    assert said == ("labels by .cls", Remark("passed-over", "left out: 1 labels without a picture"))
    assert source.bad == tuple(
        BadRecord(f"a.tar, {name} at byte {place}", reason)
        for name, place, reason in [
            ("2", 2048, "it has no .cls"),
            ("3", 2560, "its .cls is empty"),
            ("5", 4608, "two members have one name"),
            ("6", 5632, "its .cls isn't UTF-8 text"),
            ("7", 7168, "is no JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
        ]
    )


@pytest.mark.parametrize(
    ("rows", "task", "reason"),
    [
        ([{"label": 1}, {"x": 1}], None, "its .json has no label"),
        ([{"objects": []}, {"x": 1}], None, "it has no .json with objects"),
        ([{"objects": []}, {"objects": 3}], None, "its objects are 3, no list"),
    ],
)
def test_json_that_can_not_be_used_is_left_out_and_named(tmp_path, rows, task, reason):
    source = read(labelled(tmp_path / "a.tar", "json", *rows), task=task)
    assert source.bad == (BadRecord("a.tar, 001 at byte 2560", reason),)


def test_a_picture_before_any_label(tmp_path):
    source = read(shard(tmp_path / "a.tar", ("1.jpg", b""), ("2.jpg", b""), ("2.cls", "0")))
    assert source.bad == (BadRecord("a.tar, 1 at byte 512", "it has no .cls or .json or .txt"),)


@pytest.mark.parametrize("label", ["cat", "1.5", "1 2", "0x1", "9999999999"])
def test_a_cls_that_is_no_number_is_refused(tmp_path, label):
    assert refusal(labelled(tmp_path / "a.tar", "cls", "0", label)) == (
        f"a.tar, 001 at byte 2560: the label {label!r} is no class number\n"
        "A .cls holds a whole number from 0; names of classes belong into .txt."
    )


def test_shards_without_anything_usable_are_told(tmp_path):
    path = shard(tmp_path / "a.tar", ("1.jpg", b""))
    remedy = "Look whether pictures and annotations belong together, and whether the form was recognised rightly."
    assert refusal(path) == (
        f"{path}: none of its 1 pictures can be used; the first: a.tar, 1 at byte 512: it has no .cls or .json or .txt"
        f"\n{remedy}"
    )
    assert refusal(shard(path, ("1.cls", "0"))) == f"{path}: it holds no pictures\n{remedy}"


def test_a_cut_shard_loses_only_what_is_cut(tmp_path):
    path = labelled(tmp_path / "a.tar", "cls", *"012345")
    path.write_bytes(path.read_bytes()[: 6 * 2048 - 512 - 100])
    source, said = read_webdataset([path])
    assert (len(source), said) == (
        5,
        ("labels by .cls", "without an end mark, and maybe cut short: 1 shards, e.g. a.tar"),
    )
    assert [bad.where for bad in source.bad] == ["a.tar, byte 11264", "a.tar, 005 at byte 10752"]


def test_an_overwritten_header_loses_only_its_picture(tmp_path):
    path = labelled(tmp_path / "a.tar", "cls", *"0123")
    content = bytearray(path.read_bytes())
    content[2 * 2048 : 2 * 2048 + 100] = b"x" * 100
    path.write_bytes(content)
    source = read(path)
    assert source.labels().values.tolist() == [0, 1, 3]
    assert source.bad == (BadRecord("a.tar, byte 4096", "no header of a tar file: its checksum is wrong"),)


def test_a_shard_that_is_shortened_or_gone_afterwards_makes_bad_pictures(tmp_path):
    one, two = labelled(tmp_path / "a.tar", "cls", "0"), labelled(tmp_path / "b.tar", "cls", "1")
    source = read(one, two)
    one.write_bytes(b"")
    two.unlink()
    with pytest.raises(
        BadPicture, match=r"^the shard is shorter than when it was opened$|a\.tar, 000\.jpg at byte 512: "
    ):
        source.read(0)
    with pytest.raises(BadPicture, match=r"b\.tar: can't be opened: No such file or directory"):
        source.read(1)


def test_more_shards_than_a_process_may_open(tmp_path):
    paths = [labelled(tmp_path / f"{number:04d}.tar", "cls", str(number % 7)) for number in range(400)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (350, hard))
    try:
        source = read(*paths)
        order = np.random.default_rng(0).permutation(400)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda row: source.read(row).label, order)) == (order % 7).tolist()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_fingerprint_tells_labels_and_places(tmp_path):
    path = labelled(tmp_path / "a.tar", "cls", "0", "1")
    before = read(path).fingerprint()
    assert read(path).fingerprint() == before
    assert read(labelled(path, "cls", "0", "2")).fingerprint() != before
    boxes = [{"objects": [{"bbox": [1, 2, 3, size], "category": 0}]} for size in (4, 5)]
    assert read(labelled(path, "json", boxes[0])).fingerprint() != read(labelled(path, "json", boxes[1])).fingerprint()


@pytest.mark.parametrize(
    ("members", "shards"),
    [
        ([("1.jpg", b""), ("1.cls", "0")], True),
        ([("1.json", {"label": 1}), ("1.jpg", b"")], True),
        ([("1.jpg", b""), ("1.json", {"objects": []})], True),
        ([("1.jpg", b""), ("1.json", "3")], True),
        ([("1.jpg", b""), ("1.txt", "cat")], True),
        ([("0.txt", "x"), ("1.jpg", b""), ("1.txt", "cat")], True),
        ([("1.jpg", b""), ("1.json", {"image_size": [], "annotations": []})], False),
        ([("1.jpg", b""), ("1.json", {"license": 3})], False),
        ([("1.jpg", b""), ("1.json", "{")], False),
        ([("1.jpg", b""), ("1.txt", "0 0.5 0.5 0.1 0.1\n")], False),
        ([("1.jpg", b""), ("1.txt", "")], False),
        ([("1.jpg", b""), ("1.xml", "<annotation>")], False),
        ([("images/1.jpg", b""), ("labels/1.txt", "cat")], False),
        ([("cat/1.jpg", b""), ("dog/1.jpg", b"")], False),
        ([], False),
    ],
)
def test_shards_are_told_from_tar_files_of_something_else(tmp_path, members, shards):
    assert looks_like_webdataset(shard(tmp_path / "a.tar", *members)) is shards


def test_ranges_of_shards(tmp_path):
    assert expand_shards(tmp_path / "a-{008..010}-x.tar") == tuple(
        tmp_path / f"a-{each}-x.tar" for each in ("008", "009", "010")
    )
    assert expand_shards(tmp_path / "a.tar") == ()
    with pytest.raises(UserError) as caught:
        expand_shards(tmp_path / "a-{0..100000}.tar")
    assert str(caught.value) == (
        f"{tmp_path}/a-{{0..100000}}.tar: the range {{0..100000}} means 100,001 files\n"
        "A range goes up, and has at most 100,000 numbers."
    )


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([("cls", "0", "1", "2"), ("json", {"label": "a"}, {"label": "b"}, {"objects": [{"bbox": 1}]})]),
    st.lists(st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=8)), max_size=5),
    st.integers(0, 10_240),
)
def test_whatever_the_bytes_are_only_our_errors_come_out(tmp_path, contents, changes, length):
    path = labelled(tmp_path / "a.tar", *contents)
    content = bytearray(path.read_bytes())
    for place, piece in changes:
        content[place : place + len(piece)] = piece
    path.write_bytes(content[:length])
    looks_like_webdataset(path)
    try:
        source = read(path)
    except UserError as error:
        assert "a.tar" in str(error)
        return
    for row in range(len(source)):
        assert len(source.read(row).picture) < length
