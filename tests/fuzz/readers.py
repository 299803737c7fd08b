"""The readers that are given wrong inputs, each with right ones, and what has to hold of whatever it returns."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from archives import TAR_WORDS, ZIP_WORDS, make_shard, make_tar, make_zip, shard_seeds, tar_seeds, zip_seeds
from fence import unfenced
from mutation import mutate_binary, mutate_text

from foveal.data.recognise import open_data
from foveal.errors import BadPicture
from foveal.formats.archive import extract, member_names
from foveal.formats.boxlabels import BoxLabelSource, look_like_boxes
from foveal.formats.imagerecord import describe
from foveal.formats.recordio import Damage, Record, Run, fetching, open_buffer, records, scan
from foveal.formats.recsource import RecordSource
from foveal.formats.webdataset import looks_like_webdataset, read_webdataset
from foveal.mxnet import read_params
from foveal.records import BoxSource, Dataset, Reading, Source
from foveal.storage.address import is_address

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "src" / "foveal"
CORPUS = Path(__file__).resolve().parent / "corpus"
_LONGEST_MESSAGE = 3000  # characters
_LOOKED_AT = 8  # samples of each source


@dataclass(frozen=True)
class Reader:
    """A reader of one form.

    Attributes:
        modules: the files of src/foveal whose lines count as the reader's.
        right: inputs as people have them. words: what means something to it.
        prepare: makes what lies beside an input in an empty folder.
        read: reads ``content``, put into the folder; raises AssertionError where what it returns can't be.
        make: an input, of a source of randomness, the seeds, and the words.
    """

    name: str
    binary: bool
    modules: tuple[str, ...]
    right: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], None]
    words: tuple[bytes, ...] = ()
    prepare: Callable[[Path], None] = lambda folder: None
    make: Callable[[Random, Sequence[bytes], Sequence[bytes]], bytes] = mutate_binary

    def seeds(self) -> list[bytes]:
        """The right inputs, and those of the corpus."""
        stored = sorted((CORPUS / self.name).glob("*")) if (CORPUS / self.name).is_dir() else []
        return [*self.right(), *(path.read_bytes() for path in stored)]


def begin(reader: Reader, folder: Path) -> None:
    """Prepare an empty folder for a reader's inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    reader.prepare(folder)


def printable(text: str) -> None:
    """A message is printed: it has to be text, and no more of it than a person reads."""
    text.encode("utf-8")
    assert len(text) <= _LONGEST_MESSAGE, f"a message of {len(text):,} characters: {text[:200]}"


def put(path: Path, content: bytes) -> Path:
    """A new file: what maps the old one keeps it."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def go_through(source: Source) -> None:
    """Ask a source for everything it offers."""
    labels = source.labels()
    assert labels.values.dtype == np.float32
    assert labels.offsets.dtype == np.int64
    assert len(labels.offsets) == len(source) + 1
    assert labels.offsets[0] == 0
    assert labels.offsets[-1] == len(labels.values)
    assert (np.diff(labels.offsets) >= 0).all()
    int(source.fingerprint(), 16)
    for bad in source.bad[:_LOOKED_AT]:
        printable(bad.where)
        printable(bad.reason)
    names = source.class_names or ()
    assert len(set(names)) == len(names)
    for name in names:
        name.encode("utf-8")
    files = getattr(source, "files", None)
    boxed = source if isinstance(source, BoxSource) else None
    for index in range(min(len(source), _LOOKED_AT)):
        source.where(index).encode("utf-8")  # a path may be long
        try:
            if boxed is not None:
                boxes = boxed.boxes(index)
                n = len(boxes.cls)
                assert boxes.values.shape == (n, 4)
                assert boxes.difficult.shape == boxes.crowd.shape == (n,)
            if files is None or not is_address(files[index]):  # an address would be asked of the net
                sample = source.read(index)
                printable(sample.key)
                assert isinstance(sample.picture, bytes)
        except BadPicture as error:
            printable(str(error))


def go_through_all(data: Dataset) -> None:
    for line in data.said:
        line.encode("utf-8")
    for split in (data.train, data.validation, data.test):
        if split is not None:
            go_through(split)


# binary forms

_RECORDIO = TESTS / "fixtures" / "recordio"
_IDX_OF = "broken_base"


def _records() -> list[bytes]:
    kept = [path.read_bytes() for path in sorted(_RECORDIO.glob("*.rec")) if path.stat().st_size < 7000]
    boxes = struct.pack("<Ifqq7f", 7, 0, 1, 0, 2, 5, 0, 0.1, 0.2, 0.7, 0.9) + b"\xff\xd8picture"
    return [*kept, b"".join(struct.pack("<II", 0xCED7230A, len(boxes)) + boxes + bytes(-len(boxes) % 4) for _ in "ab")]


def _read_records(folder: Path, content: bytes) -> None:
    path = put(folder / "a.rec", content)
    buffer = open_buffer(path)
    found = list(scan(buffer))
    for each in (found, list(scan(buffer, thorough=True))):
        assert [0, *(one.end for one in each)] == [*(one.offset for one in each), len(buffer)]
    with fetching(path, buffer) as fetch:
        quickly = list(records(buffer, fetch))
    assert _places(found) == _places(quickly)
    for line in describe(path):
        json.dumps(line, allow_nan=False)
    source = RecordSource([path])
    go_through(source)
    for index in range(min(len(source), _LOOKED_AT)):
        source.payload(index)
    if look_like_boxes(source.labels()):
        go_through(BoxLabelSource(source))


def _places(found: Sequence[Run | Record | Damage]) -> list[tuple[int, bool]]:
    """Where records and damaged stretches start, and which of the two it is."""
    places: list[tuple[int, bool]] = []
    for each in found:
        starts = each.offsets.tolist() if isinstance(each, Run) else [each.offset]
        places += [(start, isinstance(each, Damage)) for start in starts]
    return places


def _read_idx(folder: Path, content: bytes) -> None:
    put(folder / "a.idx", content)
    go_through(RecordSource([folder / "a.rec"], idx=True))


def _read_archive(name: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        path = put(folder / name, content)
        for member in member_names(path):
            assert isinstance(member, str)
        out = folder / "out"
        with unfenced():
            shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for _ in extract(path, out, 64 << 20):
            pass
        for written in out.rglob("*"):
            assert not written.is_symlink()
            assert written.is_dir() or written.is_file()

    return read


def _read_shard(folder: Path, content: bytes) -> None:
    path = put(folder / "a.tar", content)
    looks_like_webdataset(path)
    source, said = read_webdataset([path])
    for line in said:
        (line if isinstance(line, str) else line.line).encode("utf-8")
    go_through(source)


def _params() -> list[bytes]:
    return [path.read_bytes() for path in sorted((TESTS / "fixtures" / "mxnet" / "params").glob("*.params"))]


def _read_params(folder: Path, content: bytes) -> None:
    found = read_params(put(folder / "a.params", content))
    assert sum(array.nbytes for array in found.values()) <= len(content)


# texts

_PICTURE = b"\xff\xd8\xff\xe0 stands for a picture"


def _pictures(*names: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(_PICTURE)

    return prepare


def _text(
    name: str,
    modules: tuple[str, ...],
    right: Sequence[str],
    file: str,
    *,
    opened: str = "",
    form: str | None = None,
    reading: Reading | None = None,
    beside: dict[str, str] | None = None,
    pictures: Sequence[str] = ("a.jpg", "b.png", "c d.jpg"),
    words: tuple[bytes, ...] = (),
) -> Reader:
    """A reader of a text that is opened as people open it: ``file`` is the input, ``opened`` what is named (a file or
    folder; empty for the one that all lies in), ``beside`` what else lies there."""

    def prepare(folder: Path) -> None:
        _pictures(*pictures)(folder)
        for other, content in (beside or {}).items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_text(content, encoding="utf-8")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)

    def read(folder: Path, content: bytes) -> None:
        put(folder / file, content)
        go_through_all(open_data(folder / opened, task=None, form=form, reading=reading))

    return Reader(name, False, modules, lambda: [each.encode() for each in right], read, words, prepare, mutate_text)


_VOC = """<annotation>
 <filename>a.jpg</filename>
 <size><width>40</width><height>30</height><depth>3</depth></size>
 <object><name>cat</name><difficult>1</difficult>
  <bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>29</ymax></bndbox></object>
 <object><name>dog</name>
  <bndbox><xmin>3</xmin><ymin>4</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object>
</annotation>
"""
_VOC_ENTITY = '<?xml version="1.0" encoding="latin-1"?>\n<!DOCTYPE annotation [<!ENTITY a "cat">]>\n' + _VOC.replace(
    "cat", "&a;"
)
_ONE_JSON = """{"file": "a.jpg", "image_size": [{"width": 40, "height": 30, "depth": 3}],
 "annotations": [{"class_id": 0, "left": 1, "top": 2, "width": 10, "height": 12},
  {"class_id": 1, "left": 5.5, "top": 2, "width": 10, "height": 12}],
 "categories": [{"class_id": 0, "name": "dog"}, {"class_id": 1, "name": "cat"}]}
"""
_COCO = """{"images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
  {"id": "two", "file_name": "b.png", "width": 40, "height": 30}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10.5, 12], "iscrowd": 0, "area": 126},
  {"id": 2, "image_id": "two", "category_id": 7, "bbox": [0, 0, 40, 30], "iscrowd": 1}],
 "categories": [{"id": 3, "name": "cat", "supercategory": "pets"}, {"id": 7, "name": "dog", "supercategory": "none"},
  {"id": 0, "name": "pets", "supercategory": "none"}]}
"""
_BOXES = "1 2 10 12 0\n3.5 4 20 25 1\n"
_MANIFESTS = (
    '{"source-ref": "s3://bucket/a.jpg", "species": "0", "species-metadata": {"class-name": "dog", "confidence": 0.9,'
    ' "type": "groundtruth/image-classification"}}\n{"source-ref": "b.png", "species": 1, "species-metadata":'
    ' {"class-name": "cat", "type": "groundtruth/image-classification"}}\n',
    '{"source-ref": "a.jpg", "class": 1}\n{"source-ref": "file:///x/c%20d.jpg", "class": 0}\n',
    '{"source-ref": "a.jpg", "tags": [0, 2], "tags-metadata": {"class-map": {"0": "cat", "2": "cow"}}}\n'
    '{"source-ref": "b.png", "tags": [], "tags-metadata": {"class-map": {"1": "dog"}}}\n',
    '{"source-ref": "a.jpg", "hot": "[1, 0, 1]"}\n{"source-ref": "b.png", "hot": [0, 1, 1]}\n',
    '{"source-ref": "a.jpg", "box": {"image_size": [{"width": 40, "height": 30, "depth": 3}], "annotations":'
    ' [{"class_id": 0, "left": 1, "top": 3, "width": 6, "height": 12}]}, "box-metadata": {"class-map": {"0": "dog"},'
    ' "objects": [{"confidence": 0.5}], "type": "groundtruth/object-detection"}}\n'
    '{"source-ref": "b.png", "box": {"image_size": [{"width": 40, "height": 30}], "annotations": []}}\n',
)
_TABLES = (
    "file,label,split,patient\na.jpg,cat,train,p1\nb.png,dog,train,p2\nc d.jpg,cat,val,p3\n",
    "path\tclass\na.jpg\t0\nb.png\t1\n",
    'filename;label\n"a.jpg";"a ""cat"""\nb.png;dog\n',
    "image,cat,dog,cow\na.jpg,1,0,1\nb.png,0,1,0\n",
    "file,tags\na.jpg,cat;dog\nb.png,\nc d.jpg,dog\n",
    "file,xmin,ymin,xmax,ymax,class\na.jpg,1,2,10,12,cat\na.jpg,3.5,4,20,25,dog\nb.png,,,,,\n",
    "filename,width,height,class,x,y,w,h\na.jpg,40,30,cat,0.1,0.2,0.5,0.5\nb.png,40,30,dog,0,0,1,1\n",
)
_METADATA = (
    '{"file_name": "a.jpg", "label": "cat"}\n{"file_name": "b.png", "label": "dog"}\n',
    '{"file_name": "a.jpg", "label": 0, "label_name": "cat"}\n{"file_name": "b.png", "label": 2}\n',
    '{"file_name": "a.jpg", "labels": ["cat", "dog"]}\n{"file_name": "b.png", "labels": []}\n',
    '{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 7, 5]], "categories": [0]}}\n'
    '{"file_name": "b.png", "objects": {"bbox": [], "categories": []}}\n',
    '{"file_name": "a.jpg", "width": 40, "height": 30, "objects": {"bbox": [[1, 2, 7, 5]], "category": ["cat"],'
    ' "iscrowd": [1]}}\n{"file_name": "b.png", "objects": [{"bbox": [1, 2, 3, 4], "category": "dog"}]}\n',
)
_YOLO_YAML = (
    "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat, 'a dog']\n",
    "train: ../images/train\nval:\n  - images/val\nnames:\n  0: cat\n  1: dog\n",
)
_LISTS = (
    "0\t1\ta.jpg\n1\t0\tb.png\n2\t1\tc d.jpg\n",
    "0\t1\t0\t1\ta.jpg\r\n1\t0.0\t1.0\t1.0\tb.png\r\n",
    "0\t2\t5\t1\t0.1\t0.2\t0.5\t0.6\ta.jpg\n1\t2\t5\tb.png\n"
    "2\t4\t6\t40\t30\t0\t0\t0\t1\t1\t1\t1\t.5\t.5\t.6\t.6\t0\tc d.jpg\n",
)
_FORMATS = "formats/"
_BINARY_READERS = (
    Reader(
        "recordio", True,
        ("formats/recordio.py", "formats/imagerecord.py", "formats/recsource.py", "formats/boxlabels.py"),
        _records, _read_records, (b"\x0a\x23\xd7\xce", b"\x0a\x23\xd7\xce\x00\x00\x00\x00", b"\0\0\x80\x3f"),
    ),
    Reader(
        "idx", True, ("formats/idx.py",),
        lambda: [path.read_bytes() for path in sorted(_RECORDIO.glob("idx_*.idx"))],
        _read_idx, (b"\t", b"\n", b"\r\n", b"0\t0\n", b"9" * 30, b"-1", b"0.5", b"\xd9\xa1"),
        lambda folder: put(folder / "a.rec", (_RECORDIO / f"{_IDX_OF}.rec").read_bytes()) and None,
    ),
    Reader("tar", True, ("formats/archive.py", "formats/tar.py"), tar_seeds, _read_archive("a.tar"), TAR_WORDS,
           make=make_tar),
    Reader("zip", True, ("formats/archive.py",), zip_seeds, _read_archive("a.zip"), ZIP_WORDS, make=make_zip),
    Reader("webdataset", True, ("formats/webdataset.py", "formats/tar.py", "formats/jsonlabels.py"), shard_seeds,
           _read_shard, TAR_WORDS, make=make_shard),
    Reader("params", True, ("mxnet/params.py",), _params, _read_params,
           (b"\xc9\xfa\x93\xf9", b"\xca\xfa\x93\xf9", b"\x12\x01\0\0\0\0\0\0", b"arg:", b"\xff")),
)  # fmt: skip
_TEXT_READERS = (
    _text("lst", ("formats/lst.py", "formats/boxlabels.py"), _LISTS, "train.lst", opened="train.lst"),
    _text("table", ("formats/table.py", "formats/boxtable.py", "data/tables.py"), _TABLES, "train.csv",
          opened="train.csv", words=(b"file", b"label", b"xmin", b"split", b"test", b'"', b";")),
    _text("manifest", ("formats/manifest.py",), _MANIFESTS, "train.manifest", opened="train.manifest",
          words=(b'"source-ref"', b'"class-map"', b"-metadata", b"annotations", b"s3://bucket/b.png", b"file:///a.jpg")),
    _text("sagemaker-json", ("formats/sagemaker_json.py",), (_ONE_JSON,), "train_annotation/a.json",
          form="sagemaker-json", beside={"train_annotation/b.json": _ONE_JSON.replace("a.jpg", "b.png")},
          pictures=("train/a.jpg", "train/b.png")),
    _text("coco", ("formats/coco.py",), (_COCO,), "train.json", opened="train.json", form="coco"),
    _text("voc", ("formats/voc.py",), (_VOC, _VOC_ENTITY), "Annotations/a.xml", opened="", form="voc",
          beside={"Annotations/b.xml": _VOC.replace("a.jpg", "b.png")},
          pictures=("JPEGImages/a.jpg", "JPEGImages/b.png"),
          words=(b"<bndbox>", b"</object>", b"<![CDATA[", b"<!--", b"&a;", b"&#0;", b'<!ENTITY b "&a;&a;">')),
    _text("voc-lists", ("formats/voc.py",), ("a\nb\n", "a 1\nb -1\n"), "ImageSets/Main/train.txt", form="voc",
          beside={"Annotations/a.xml": _VOC, "Annotations/b.xml": _VOC},
          pictures=("JPEGImages/a.jpg", "JPEGImages/b.png")),
    _text("yolo", ("formats/yolo.py",), ("0 0.5 0.4 0.25 0.3\n1 0.1 0.1 0.05 0.05\n", ""), "labels/a.txt", form="yolo",
          beside={"labels/b.txt": "0 0.5 0.4 0.25 0.3\n", "classes.txt": "cat\ndog\n"},
          pictures=("images/a.jpg", "images/b.png")),
    _text("yolo-yaml", ("formats/yolo.py",), _YOLO_YAML, "data.yaml", opened="data.yaml",
          beside={"labels/train/a.txt": "0 0.5 0.4 0.25 0.3\n", "labels/val/b.txt": "1 0.5 0.4 0.25 0.3\n"},
          pictures=("images/train/a.jpg", "images/val/b.png"),
          words=(b"!!python/object:os.system", b"&a", b"*a", b"- ", b": ", b"<<: *a", b"|\n", b"images/val")),
    _text("metadata", ("formats/imagefolder.py", "formats/jsonlabels.py"), _METADATA, "metadata.jsonl",
          words=(b'"file_name"', b'"objects"', b'"bbox"', b'"categories"', b'"label"')),
    _text("metadata-csv", ("formats/imagefolder.py", "formats/table.py"),
          ("file_name,label\na.jpg,cat\nb.png,dog\n", 'file_name,label,text\na.jpg,0,"x,y"\nb.png,1,\n'),
          "metadata.csv"),
    _text("boxes", ("formats/boxtext.py",), (_BOXES, ""), "a.txt", form="boxes",
          reading=Reading(columns=("x1", "y1", "x2", "y2", "class")), beside={"b.txt": _BOXES, "c d.txt": ""}),
    _text("boxes-of-all", ("formats/boxtext.py",), ("a.jpg,1,2,10,12,cat\nb.png,3,4,5,6,dog\na.jpg,1,1,2,2,dog\n",),
          "boxes.txt", opened="boxes.txt", form="boxes",
          reading=Reading(columns=("file", "x", "y", "w", "h", "class"), separator=",")),
    _text("boxes-lists", ("formats/boxtext.py",), ("a.jpg a.txt\nb.png b.txt\n",), "train.txt", form="boxes",
          reading=Reading(columns=("x1", "y1", "x2", "y2", "class")), beside={"a.txt": _BOXES, "b.txt": _BOXES}),
    _text("class-names", ("formats/pictures.py",), ("cat\na dog\n", "0\n1\n", "un chat\r\nun chien\r\n"), "classes.txt",
          opened="train.lst", beside={"train.lst": _LISTS[0]}),
)  # fmt: skip
READERS = {reader.name: reader for reader in (*_BINARY_READERS, *_TEXT_READERS)}
