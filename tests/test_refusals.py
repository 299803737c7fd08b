"""Wrong data: each case is a real command on real files, the whole text of what it tells, and exit status 2.

Which line of the code refuses is noted as it happens: an error that is made in one of the rooms below, and whose words
stand in the text. No two cases are refused by one line (``test_each_case_has_a_line_of_code_of_its_own``).

The texts are in ``tests/fixtures/refusals.txt``, where they can be read one after another. Where a case is one of the
complaints about the original that the reference lists in section 7, its name says so.
"""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.cli.main import main
from foveal.errors import UserError
from foveal.formats.imagerecord import pack
from foveal.formats.recordio import frame

PACKAGE = Path(foveal.__file__).parent
ROOMS = ("formats", "data", "storage", "converting", "checking")
LEAST = 60  # lines of code
TEXTS = Path(__file__).parent / "fixtures" / "refusals.txt"

Files = Mapping[str, bytes | str]


@dataclass(frozen=True)
class Case:
    """A command, run in a folder that holds nothing but ``files``: path -> content."""

    name: str
    command: str
    files: Files


@dataclass(frozen=True)
class Answer:
    """What a command told, with which status, and the places of the code that made errors: (file, line, what)."""

    told: str
    status: int
    made: tuple[tuple[str, int, str], ...]


# What the cases are made of


def picture(kind: str = "PNG", size: tuple[int, int] = (12, 10)) -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(kept, kind)
    return kept.getvalue()


PNG = picture()
PHOTOS = {f"photos/{name}/{number}.png": PNG for name in ("cat", "dog") for number in (1, 2)}
FOUR = {f"{number}.png": PNG for number in range(4)}


def lines(*given: object) -> str:
    """Texts as they are, all else as JSON, each on a line."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in given)


def zipped(members: Files, *changes: tuple[bytes, int, bytes]) -> bytes:
    """A zip archive; behind each mark of ``changes`` bytes are written at an offset."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    content = bytearray(kept.getvalue())
    for mark, offset, new in changes:
        place = content.index(mark) + offset
        content[place : place + len(new)] = new
    return bytes(content)


def tarred(*members: tuple[str, bytes | str], kind: bytes = tarfile.REGTYPE, mode: str = "w") -> bytes:
    """A tar archive; the content of members of another ``kind`` is what they link to."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode=mode) as file:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return kept.getvalue()


def records(*labels: list[float]) -> bytes:
    return b"".join(
        frame(pack(PNG, np.array(each, dtype=np.float32) if len(each) > 1 else each[0], row))
        for row, each in enumerate(labels)
    )


def coco(**changes: object) -> dict[str, bytes | str]:
    content = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    kept = {name: value for name, value in {**content, **changes}.items() if value is not None}
    return {"data/train.json": json.dumps(kept), "data/images/0.png": PNG}


def voc(xml: str) -> dict[str, bytes | str]:
    return {"data/JPEGImages/0.png": PNG, "data/Annotations/0.xml": xml}


def yolo(described: str, label: str = "0 0.5 0.5 0.4 0.4") -> dict[str, bytes | str]:
    return {"data.yaml": described, "train/images/0.png": PNG, "train/labels/0.txt": label}


def sagemaker(**changes: object) -> dict[str, bytes | str]:
    content = {
        "file": "0.png",
        "image_size": [{"width": 12, "height": 10, "depth": 3}],
        "annotations": [{"class_id": 0, "left": 1, "top": 1, "width": 5, "height": 5}],
        "categories": [{"class_id": 0, "name": "cat"}],
    }
    return {"data/train/0.png": PNG, "data/train_annotation/0.json": json.dumps({**content, **changes})}


def listed(*wrong: str, right: int = 4) -> dict[str, bytes | str]:
    return {**FOUR, "a.lst": lines(*wrong, *(f"{n}\t{n % 2}\t{n}.png" for n in range(len(wrong), right)))}


def table(*rows: str, header: str = "file,label") -> dict[str, bytes | str]:
    return {**FOUR, "a.csv": lines(header, *rows)}


def manifest(*given: object) -> dict[str, bytes | str]:
    named = ({"source-ref": f"{n}.png", **each} if isinstance(each, dict) else each for n, each in enumerate(given))
    return {**FOUR, "a.manifest": lines(*named)}


BOX = {"image_size": [{"width": 12, "height": 10}], "annotations": []}
IDX = "0\t0\n1\t{}\n"
INTO = "out --to"
ZIP, TAR = f"convert a.zip {INTO} folder", f"convert a.tar {INTO} folder"
LST, CSV, MANIFEST = f"convert a.lst {INTO} lst", f"convert a.csv {INTO} csv", f"convert a.manifest {INTO} csv"
BOXES = f"convert data {INTO} voc"
KEEP = f"convert photos {INTO} folder"

CASES = [
    # archives
    Case("empty file called .zip", ZIP, {"a.zip": b""}),
    Case("zip without members", ZIP, {"a.zip": zipped({})}),
    Case("zip that is cut", ZIP, {"a.zip": zipped(PHOTOS)[:-40]}),
    Case("encrypted member", ZIP, {"a.zip": zipped(PHOTOS, (b"PK\x03\x04", 6, b"\1\0"), (b"PK\x01\x02", 8, b"\1\0"))}),
    Case("method that isn't read", ZIP, {"a.zip": zipped(PHOTOS, (b"PK\x01\x02", 10, b"\x62\0"))}),
    Case("member that leads out", ZIP, {"a.zip": zipped({"cat/1.png": PNG, "../2.png": PNG})}),
    Case("names that differ in case", ZIP, {"a.zip": zipped({"cat/a.png": PNG, "cat/A.png": PNG})}),
    Case("name longer than files can have", TAR, {"a.tar": tarred(("cat/" + "x" * 300 + ".png", PNG))}),
    Case("two members of one name", TAR, {"a.tar": tarred(("cat/1.png", PNG), ("cat/1.png", PNG))}),
    Case("file and folder of one name", TAR, {"a.tar": tarred(("cat", PNG), ("cat/1.png", PNG))}),
    Case("link out of the archive", TAR, {"a.tar": tarred(("cat/1.png", "../../x"), kind=tarfile.SYMTYPE)}),
    Case("link to nothing", TAR, {"a.tar": tarred(("cat/1.png", "2.png"), kind=tarfile.SYMTYPE)}),
    Case("device in an archive", TAR, {"a.tar": tarred(("cat/1.png", ""), kind=tarfile.CHRTYPE)}),
    Case("model in an archive", ZIP, {"a.zip": zipped({"foveal.json": "{}"})}),
    Case("shard that is compressed", "check a.tar.gz", {
        "a.tar.gz": tarred(("1.png", PNG), ("1.cls", b"0"), mode="w:gz")
    }),
    Case("zip as a shard", "check a.zip --format webdataset", {"a.zip": zipped(PHOTOS)}),
    # places
    Case("nothing there", "check nowhere", {}),
    Case("complaint 27: converter without pictures", "pack data out", {"data/readme.md": "x"}),
    Case("one picture", "check 0.png", FOUR),
    Case("model", "check run", {"run/foveal.json": "{}"}),
    Case("unknown suffix", "check a.xlsx", {"a.xlsx": b"x"}),
    Case("archive of another kind", "check a.rar", {"a.rar": b"Rar!"}),
    Case("Parquet file", "check a.parquet", {"a.parquet": b"PAR1"}),
    Case("folder of Parquet", "check data", {"data/a.parquet": b"PAR1"}),
    Case("file as a folder", "check a.csv --format folder", table("0.png,cat")),
    Case("text as COCO", "check a.txt --format coco", {"a.txt": "x"}),
    Case("test data alone", "check data", {"data/test/cat/1.png": PNG}),
    Case("validation twice", "check data", {f"data/{each}/cat/1.png": PNG for each in ("train", "val", "valid")}),
    Case("splits in a split", "check data", {f"data/train/{each}/cat/1.png": PNG for each in ("train", "val")}),
    Case("data set among classes", "check data", {"data/a/train/cat/1.png": PNG}),
    Case("two lists", "check data", {**{f"data/{n}.png": PNG for n in range(2)}, "data/a.lst": "", "data/b.lst": ""}),
    Case("two archives for a split", "check data", {f"data/train{n}.zip": zipped(PHOTOS) for n in (1, 2)}),
    # options that the data has no use for
    Case("option of another form", "check photos --label-attribute a", PHOTOS),
    Case("unit of a table of classes", "check a.csv --unit pixel", table("0.png,cat", "1.png,dog")),
    Case("name for a number that isn't there", "check a.lst --names 0=cat", listed()),
    Case("name beside classes.txt", "check a.lst --names 0=cat,1=cow", {**listed(), "classes.txt": "cat\ndog\n"}),
    Case("names for some of several labels", "check a.lst --names 0=cat,1=dog", listed(
        *(f"{n}\t{n % 2}\t1\t0\t{n}.png" for n in range(4))
    )),
    # classes
    Case("complaint 28: fewer names than labels", "check photos", {**PHOTOS, "photos/classes.txt": "cat\n"}),
    Case("complaint 14: names and labels of another number", "check a.lst", {
        **listed(*(f"{n}\t{n % 2}\t1\t0\t{n}.png" for n in range(4))), "classes.txt": "cat\ndog\n"
    }),
    Case("no names", "check photos", {**PHOTOS, "photos/classes.txt": ""}),
    Case("blank name", "check photos", {**PHOTOS, "photos/classes.txt": "cat\n\ndog\n"}),
    Case("name twice", "check photos", {**PHOTOS, "photos/classes.txt": "cat\ndog\ncat\n"}),
    Case("numbers to train on, names to validate with", "check a.lst --validation photos", {**listed(), **PHOTOS}),
    Case("one label to validate with", "check a.lst --validation b.lst", {
        **listed(*(f"{n}\t{n % 2}\t1\t{n}.png" for n in range(4))), "b.lst": "0\t1\t0.png\n"
    }),
    Case("other labels to validate with", "check a.lst --validation b.lst", {
        **listed(*(f"{n}\t{n % 2}\t1\t{n}.png" for n in range(4))), "b.lst": "0\t1\t0\t1\t0.png\n"
    }),
    # labels
    Case("complaint 15: list without a label", LST, listed("0\t0.png")),
    Case("list without its pictures", LST, {"a.lst": "0\t0\t0.png\n"}),
    Case("negative class", LST, listed("0\t-1\t0.png")),
    Case("half a class", LST, listed("0\t0.5\t0.png")),
    Case("gaps in the classes", "train a.lst --output out", listed("0\t7\t0.png")),
    Case("table without a label", CSV, table("0.png,red", header="file,colour")),
    Case("table without the column", f"{CSV} --label-column kind", table("0.png,cat")),
    Case("table with a short row", CSV, table("0.png,cat", "1.png")),
    Case("table that is no UTF-8", CSV, {"a.csv": "file,label\nb\xe4r.png,b\xe4r\n".encode("latin-1")}),
    Case("table with an open quote", CSV, table('"0.png,cat')),
    Case("table without rows", CSV, table()),
    Case("table with an unknown split", CSV, table("0.png,cat,dev", header="file,label,split")),
    Case("table that trains on nothing", CSV, table("0.png,cat,test", header="file,label,split")),
    Case("neither 0 nor 1", f"{CSV} --labels cat,dog", table("0.png,1,0", "1.png,2,1", header="file,cat,dog")),
    Case("table without its pictures", CSV, {"a.csv": "file,label\n0.png,cat\n"}),
    Case("class that the training table lacks", "check a.csv --validation b.csv", {
        **table("0.png,cat", "1.png,dog"), "b.csv": "file,label\n2.png,cow\n"
    }),
    # manifests
    Case("complaint 10: which attribute", MANIFEST, manifest({"kind": 0, "colour": 1})),
    Case("complaint 25: video frames", MANIFEST, manifest({"track-ref": "s3://bucket/SeqLabel.json"})),
    Case("no attribute", MANIFEST, manifest({})),
    Case("boxes after a class", MANIFEST, manifest({"a": 0}, {"a": BOX})),
    Case("a class after boxes", MANIFEST, manifest({"a": BOX}, {"a": 0})),
    Case("complaint 13: lists of several lengths", f"{MANIFEST} --label-format multi-hot", manifest(
        {"a": [0, 1]}, {"a": [1, 0, 1]}
    )),
    Case("multi-hot 2", f"{MANIFEST} --label-format multi-hot", manifest({"a": [0, 1]}, {"a": [0, 2]})),
    Case("a class of two names", MANIFEST, manifest(
        {"a": 0, "a-metadata": {"class-name": "cat"}}, {"a": 0, "a-metadata": {"class-name": "cow"}}
    )),
    Case("number without a name", f"{MANIFEST} --names 0=cat", manifest({"a": 0}, {"a": 1})),
    Case("label that is none", MANIFEST, manifest({"a": True})),
    Case("number after a name", MANIFEST, manifest({"a": "cat"}, {"a": 1})),
    # boxes
    Case("COCO without categories", BOXES, coco(categories=None)),
    Case("COCO that is cut", "check a.json --format coco", {"a.json": '{"images": ['}),
    Case("category id twice", BOXES, coco(categories=[{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}])),
    Case("category without a name", BOXES, coco(categories=[{"id": 3}])),
    Case("category name twice", BOXES, coco(categories=[{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}])),
    Case("image id twice", BOXES, coco(images=[{"id": 1, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}])),
    Case("image without a file", BOXES, coco(images=[{"id": 1}])),
    Case("entry that is no object", BOXES, coco(annotations=[7])),
    Case("XML that is cut", BOXES, voc("<annotation><object>")),
    Case("XML with a document type", BOXES, voc('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')),
    Case("object without a name", BOXES, voc("<annotation><object><bndbox/></object></annotation>")),
    Case("object without a number", BOXES, voc(
        "<annotation><object><name>cat</name><bndbox><xmin>one</xmin></bndbox></object></annotation>"
    )),
    Case("YOLO without training pictures", "check data.yaml", yolo("names: [cat]\n")),
    Case("YOLO folder that is not there", "check data.yaml", yolo("names: [cat]\ntrain: pictures\n")),
    Case("YOLO names that are none", "check data.yaml", yolo("names: 5\ntrain: train/images\n")),
    Case("YOLO name twice", "check data.yaml", yolo("names: [cat, cat]\ntrain: train/images\n")),
    Case("YOLO line of four numbers", "check data.yaml", yolo("names: [cat]\ntrain: train/images\n", "0 1 1 1")),
    Case("YOLO coordinate that is none", "check data.yaml", yolo("names: [cat]\ntrain: train/images\n", "0 1 1 1 x")),
    Case("complaint 20: size without a width", BOXES, sagemaker(image_size=[{"height": 10}])),
    Case("annotation without a corner", BOXES, sagemaker(annotations=[{"class_id": 0, "left": 1}])),
    Case("columns without a box", "check photos --columns 'file class'", PHOTOS),
    Case("column that is none", "check photos --columns 'x1 y1 x2 z2 class'", PHOTOS),
    Case("column twice", "check photos --columns 'x1 y1 x2 y2 class class'", PHOTOS),
    # records
    Case("complaint 18: empty .rec", "check train.rec", {"train.rec": b""}),
    Case("complaint 11: JPEG where RecordIO should be", f"convert train.rec {INTO} folder", {
        "train.rec": picture("JPEG")
    }),
    Case("complaint 12: index of another file", "check train.rec --idx", {
        "train.rec": records([0], [1]), "train.idx": IDX.format(52)
    }),
    Case("index that lists nothing", "check train.rec --idx", {"train.rec": records([0], [1]), "train.idx": ""}),
    Case("complaint 17: label without its header", "train train.rec --algorithm object-detection --output out", {
        "train.rec": records([2, 5, 0, 0.1, 0.1, 0.5, 0.5], [0, 0.1, 0.1, 0.5, 0.5])
    }),
    # shards
    Case("label that is no number", "check a.tar", {"a.tar": tarred(("1.png", PNG), ("1.cls", b"cat"))}),
    Case("range of too many files", "check 'a-{000000..999999999}.tar'", FOUR),
    # choosing, converting and packing
    Case("class that isn't there", f"{KEEP} --classes cat,cow", PHOTOS),
    Case("class chosen twice", f"{KEEP} --classes cat,cat", PHOTOS),
    Case("groups that nothing belongs to", f"{KEEP} --split 0.5,0.5 --group-by 'patient\\d+'", PHOTOS),
    Case("nothing left", f"{KEEP} --drop 1.png --drop 2.png", {"photos/cat/1.png": PNG, "photos/dog/2.png": PNG}),
    Case("shares of data that is split", f"convert data {INTO} folder --split 0.5,0.5", {
        f"data/{split}/{name}": content for split in ("train", "val") for name, content in PHOTOS.items()
    }),
    Case("list of what to drop that is none", f"{KEEP} --drop away.jsonl", {**PHOTOS, "away.jsonl": "[]\n"}),
    Case("form that can't be told", "convert photos out", PHOTOS),
    Case("name of another form", "convert photos out.rec --to csv", PHOTOS),
    Case("boxes as folders", f"convert data {INTO} folder", coco()),
    Case("address for a form that has none", f"{KEEP} --prefix s3://bucket/a/", PHOTOS),
    Case("prefix that is no address", f"convert photos {INTO} manifest --prefix photos/", PHOTOS),
    Case("prefix without a bucket", f"convert photos {INTO} manifest --prefix s3:///photos/", PHOTOS),
    Case("prefix at a web server", f"convert photos {INTO} manifest --prefix https://example.org/a/", PHOTOS),
    Case("what is there already", KEEP, {**PHOTOS, "out/1.txt": "mine"}),
    Case("unreadable pictures", f"{KEEP} --bad-records-limit 1", {"photos/cat/1.png": "x", "photos/dog/1.png": "y"}),
    Case("empty picture among others", KEEP, {**PHOTOS, "photos/cat/1.png": ""}),
    Case("complaint 8: label_width of another label", "pack a.lst out --label-width 5", listed()),
    Case("list of records", "pack train.rec out --list", {"train.rec": records([0], [1])}),
    Case("packed before", "pack photos out", {**PHOTOS, "out/train.rec": "mine"}),
]  # fmt: skip


def place_of(made: FrameType) -> tuple[str, int]:
    """The file below ``src/foveal`` and the line in which an error is made."""
    path = Path(made.f_code.co_filename)
    return (path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else ""), made.f_lineno


def run(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> Answer:
    """Run a command in this process, by the function that the installed ``foveal`` calls."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    made: list[tuple[str, int, str]] = []
    init = UserError.__init__

    def noting(self: UserError, what: str, *rest: str, **named: str) -> None:
        init(self, what, *rest, **named)
        made.append((*place_of(sys._getframe(1)), self.what))

    patch.setattr(UserError, "__init__", noting)
    patch.setattr(sys, "argv", ["foveal", *shlex.split(case.command)])
    patch.chdir(folder)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return Answer(_told(out.getvalue() + err.getvalue()), status, tuple(made))


def _told(text: str) -> str:
    """From the line of the error to the end."""
    found = text.splitlines()
    first = next((n for n, line in enumerate(found) if line.lower().startswith("error: ")), len(found))
    return "\n".join(found[first:])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What each case is told."""
    found = {}
    for case in CASES:
        with pytest.MonkeyPatch.context() as patch:
            found[case.name] = run(case, tmp_path_factory.mktemp("wrong"), patch)
    return found


def texts() -> dict[str, str]:
    """The sections of ``refusals.txt``: name -> text."""
    _, *parts = re.split(r"^\[(.+)\]\n", TEXTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.rstrip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def refusing_lines() -> dict[tuple[str, int], tuple[str, int]]:
    """All lines on which an error is made in the rooms -> file and first line of that call."""
    found = {}
    for room in ROOMS:
        for path in sorted((PACKAGE / room).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("UserError", "BadPicture"):
                    name = path.relative_to(PACKAGE).as_posix()
                    found.update(
                        {(name, line): (name, node.lineno) for line in range(node.lineno, node.end_lineno + 1)}
                    )
    return found


def refused_at(answer: Answer, known: Mapping[tuple[str, int], tuple[str, int]]) -> tuple[str, int]:
    """The call that refused: of the errors made in the rooms, the first whose words stand in what was told."""
    places = [
        known[file, line] for file, line, what in answer.made if (file, line) in known and what and what in answer.told
    ]
    assert places, "no line of the rooms refused this"
    return places[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_data_is_told_in_these_words(case: Case, answers: dict[str, Answer]) -> None:
    answer = answers[case.name]
    assert (answer.told, answer.status) == (texts()[case.name], 2)


def test_each_case_has_a_line_of_code_of_its_own(answers: dict[str, Answer]) -> None:
    known, wanted = refusing_lines(), texts()
    assert set(wanted) == {case.name for case in CASES}
    held: dict[tuple[str, int], str] = {}
    for name, answer in answers.items():
        assert (answer.told, answer.status) == (wanted[name], 2)
        place = refused_at(answer, known)
        assert held.setdefault(place, name) == name, f"{place} is that of two cases"
    assert len(held) >= LEAST


def test_ten_of_the_complaints_are_answered() -> None:
    numbers = {found[1] for case in CASES if (found := re.match(r"complaint (\d+): ", case.name))}
    assert len(numbers) >= 10
