"""What a person is told who gave something wrong: the whole text, exit status 2, never a traceback.

Each case is a real command on real files, and each comes from a check of its own in the code (``test_...`` below
holds it to that). The texts are in ``tests/fixtures/roads/errors.txt``, where they can be read one after another. Where
a case is one of the complaints about the original that the reference lists in section 7, its name says so.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import safetensors.torch
import torch

import foveal
from foveal.cli.main import main
from foveal.errors import UserError

PACKAGE = Path(foveal.__file__).parent
TEXTS = Path(__file__).parents[1] / "fixtures" / "roads" / "errors.txt"
QUICK = "--num-layers 20 --image-shape 3,32,32 --epochs 1 --mini-batch-size 8 --use-pretrained-model 0".split()
CLASSES = {"disc": 0, "square": 1, "triangle": 2}

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A command and, before it, what is put into the folder that it is run in (beside ``shapes`` and ``run``)."""

    name: str
    command: str
    prepare: Prepare | None = None
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str
    error: BaseException | None

    @property
    def error_lines(self) -> str:
        """What follows the decisions: click's usage, or the line that begins with Error."""
        lines = self.err.splitlines()
        first = next((n for n, line in enumerate(lines) if line.startswith(("Error: ", "Usage: "))), len(lines))
        return "\n".join(lines[first:])

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("Warning: ")]


def words(command: str) -> list[str]:
    """The words of a command; ``train`` gets quick settings and a folder for its run."""
    first, *rest = shlex.split(command)
    return [first, *QUICK, "--output", "out", *rest] if first == "train" else [first, *rest]


@pytest.fixture(scope="module")
def world(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``shapes/{train,test}/CLASS/*`` (12 and 4 pictures a class) and ``run``, a model of them."""
    root = tmp_path_factory.mktemp("errors")
    for split, count in (("train", 12), ("test", 4)):
        for name in CLASSES:
            (root / "shapes" / split / name).mkdir(parents=True)
            for file in sorted((shapes_folder / split / name).iterdir())[:count]:
                shutil.copy(file, root / "shapes" / split / name)
    settings = dict(zip(("num_layers", "image_shape", "epochs", "mini_batch_size", "use_pretrained_model"),
                        QUICK[1::2], strict=True))  # fmt: skip
    foveal.train(root / "shapes", root / "run", **settings)
    return root


@pytest.fixture
def ask(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs a command in this process, by the function that the installed ``foveal`` calls, in a folder of its own."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOVEAL_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(arguments: list[str], variables: tuple[tuple[str, str], ...] = ()) -> Said:
        for name, value in variables:
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["foveal", *arguments])
        capsys.readouterr()
        status, error = 0, None
        try:
            main()
        except SystemExit as exit_:
            status, error = int(exit_.code or 0), exit_.__context__
        out, err = capsys.readouterr()
        return Said(status, out, err, error)

    return run


# What the cases put into their folder


def pictures(here: Path) -> Path:
    """A folder per class."""
    shutil.copytree("shapes/train", here / "data")
    return here / "data"


def some(count: int) -> list[str]:
    """The paths of pictures of all classes, relative to ``shapes/train``."""
    files = [f"{path.parent.name}/{path.name}" for path in sorted(Path("shapes/train").rglob("*.*"))]
    return files[:: len(files) // count]


def lst(*lines: str, name: str = "list.lst") -> Prepare:
    """Pictures and a list of them; ``lines`` replace its first ones."""

    def make(here: Path) -> None:
        folder = pictures(here)
        right = [f"{n}\t{CLASSES[file.split('/')[0]]}\t{file}" for n, file in enumerate(some(12))]
        folder.joinpath(name).write_text("\n".join([*lines, *right[len(lines) :]]) + "\n", encoding="utf-8")

    return make


def csv(content: str | bytes) -> Prepare:
    def make(here: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        pictures(here).joinpath("table.csv").write_bytes(data)

    return make


def record(picture: bytes, *labels: float) -> bytes:
    """A RecordIO record, by the layout of the reference (3.1, 3.2)."""
    payload = struct.pack("<IfQQ", 0 if len(labels) == 1 else len(labels), labels[0], 0, 0)
    payload += b"" if len(labels) == 1 else struct.pack(f"<{len(labels)}f", *labels)
    payload += picture
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


def rec(*labels: tuple[float, ...], cut: int = 0) -> Prepare:
    def make(here: Path) -> None:
        picture = Path("shapes/train/disc/000.png").read_bytes()
        content = b"".join(record(picture, *each) for each in labels)
        (here / "train.rec").write_bytes(content[: len(content) - cut])

    return make


def file(name: str, content: str | bytes = b"", after: Prepare | None = None) -> Prepare:
    """A file, written after what ``after`` makes."""

    def make(here: Path) -> None:
        if after is not None:
            after(here)
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def classes_txt(content: str) -> Prepare:
    return lambda here: pictures(here).joinpath("classes.txt").write_text(content, encoding="utf-8")


def splits(*names: str) -> Prepare:
    return lambda here: [shutil.copytree("shapes/train", here / "data" / name) for name in names]


def renamed_class(here: Path) -> None:
    splits("train", "val")(here)
    (here / "data/val/disc").rename(here / "data/val/moon")


def unsorted_pictures(here: Path) -> None:
    (here / "data").mkdir()
    for number, path in enumerate(some(12)):
        shutil.copy(Path("shapes/train") / path, here / "data" / f"{number}{Path(path).suffix}")


def all_unreadable(here: Path) -> None:
    for path in pictures(here).rglob("*.*"):
        path.write_text("no picture")


def third_unreadable(here: Path) -> None:
    for path in sorted(pictures(here).rglob("*.*"))[::3]:
        path.write_text("no picture")


def bomb(here: Path) -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels, alone in what is judged."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    (here / "data/disc").mkdir(parents=True)
    (here / "data/disc/bomb.png").write_bytes(content)


def model(change: Callable[[Path], object]) -> Prepare:
    """A copy of the model, changed."""

    def make(here: Path) -> None:
        shutil.copytree("run/model", here / "model")
        change(here / "model")

    return make


def described(**changes: object) -> Prepare:
    """A model whose foveal.json says something else; None takes an entry out."""

    def change(folder: Path) -> None:
        fields = json.loads((folder / "foveal.json").read_text(encoding="utf-8"))
        for name, value in changes.items():
            fields[name] = {**fields[name], **value} if isinstance(value, dict) else value
        kept = {name: value for name, value in fields.items() if value is not None}
        (folder / "foveal.json").write_text(json.dumps(kept), encoding="utf-8")

    return model(change)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Prepare:
    """A model with other weights, whose SHA-256 is right."""

    def make(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        content = safetensors.torch.save(tensors)
        (folder / "model.safetensors").write_bytes(content)
        fields = json.loads((folder / "foveal.json").read_text(encoding="utf-8"))
        fields["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "foveal.json").write_text(json.dumps(fields), encoding="utf-8")

    return model(make)


def archive(change: Callable[[bytes], bytes]) -> Prepare:
    return lambda here: (here / "model.tar.gz").write_bytes(change(Path("run/model.tar.gz").read_bytes()))


def a_run(change: Callable[[Path], object] | None = None) -> Prepare:
    def make(here: Path) -> None:
        shutil.copytree("run", here / "out")
        if change is not None:
            change(here / "out")

    return make


def tar_of_another_program(_: bytes) -> bytes:
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("weights.bin"), io.BytesIO())
    return kept.getvalue()


class Code:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo broken into > broken-into",)


LIST, TABLE, RECORDS = "train data/list.lst", "train data/table.csv", "train train.rec"
ASK = "predict model shapes/test/disc/000.png"
DATA = "train data"
SHAPES = "train shapes"

CASES = [
    # settings
    Case("complaint 6: misspelt key, strict=1", f"{SHAPES} --set lerning_rate=0.1 --strict 1"),
    Case("complaint 21: detection's form of image_shape", f"{SHAPES} --image-shape 416"),
    Case("complaint 22: misspelt value", f"{SHAPES} --augmentation-type crop_color_transformation"),
    Case("number out of range", f"{SHAPES} --learning-rate 2"),
    Case("no number", f"{SHAPES} --learning-rate fast"),
    Case("whole number with decimals", f"{SHAPES} --mini-batch-size 32.5"),
    Case("depth that does not exist", f"{SHAPES} --num-layers 21"),
    Case("depth too deep for small pictures", f"{SHAPES} --image-shape 3,64,64"),
    Case("schedule that goes back", f"{SHAPES} --lr-scheduler-step 20,10"),
    Case("neither yes nor no", f"{SHAPES} --early-stopping maybe"),
    Case("bound that is left out", f"{SHAPES} --validation-fraction 1"),
    Case("kind that the depth does not have", f"{SHAPES} --resnet post"),
    Case("checkpoints rarer than epochs", f"{SHAPES} --checkpoint-frequency 5"),
    Case("multi-label", f"{SHAPES} --set multi_label=1"),
    Case("no pair", f"{SHAPES} --set num_layers:18"),
    Case("option as a hyperparameter", f"{SHAPES} --set model=run"),
    Case("card that is not there", f"{SHAPES} --device cuda"),
    Case("empty path", "predict run ''"),
    Case("device that is none", "predict run shapes/test/disc --device gpu"),
    # data
    Case("no such folder", "train photos"),
    Case("archive instead of data", "train photos.zip", file("photos.zip", b"PK\x03\x04")),
    Case("one picture instead of data", "train shapes/test/disc/000.png"),
    Case("unknown kind of file", "train data.xlsx", file("data.xlsx")),
    Case("model instead of data", "train run"),
    Case("pictures but no classes", DATA, unsorted_pictures),
    Case("no training data", DATA, splits("val")),
    Case("validation twice", DATA, splits("train", "val", "valid")),
    Case("class in validation that training lacks", DATA, renamed_class),
    Case("several data sets", DATA, lambda here: shutil.copytree("shapes", here / "data/first")),
    Case("splits inside a split", DATA, lambda here: shutil.copytree("shapes", here / "data/train")),
    Case("splits without the one asked for", f"{SHAPES} --validation data", splits("train", "test")),
    Case("too few names of classes", DATA, classes_txt("disc\nsquare\n")),
    Case("blank name of a class", DATA, classes_txt("disc\n\nsquare\n")),
    Case("class named twice", DATA, classes_txt("disc\nsquare\ndisc\n")),
    Case("no names of classes", DATA, classes_txt("")),
    Case("fewer classes asked for than there are", f"{SHAPES} --num-classes 2"),
    Case("no validation data in recipe original", f"{SHAPES} --recipe original"),
    Case("one picture a class", LIST,
         file("data/list.lst", "0\t0\tdisc/000.png\n1\t1\tsquare/000.png\n", after=pictures)),  # fmt: skip
    Case("too many unreadable pictures", DATA, third_unreadable),
    Case("complaint 15: line of a list without its index", LIST, lst("0\tdisc/000.png")),
    Case("empty list", "train empty.lst", file("empty.lst")),
    Case("list without its pictures", "train lonely.lst", file("lonely.lst", "0\t0\tcat.jpg\n")),
    Case("complaint 14: several labels a picture", LIST, lst("0\t1\t0\tdisc/000.png")),
    Case("boxes instead of a class", LIST, lst("0\t2\t5\t0\t0.1\t0.1\t0.5\t0.5\tdisc/000.png")),
    Case("half a class", LIST, lst("0\t0.5\tdisc/000.png")),
    Case("negative class", LIST, lst("0\t-1\tdisc/000.png")),
    Case("class beyond num_classes", f"{LIST} --num-classes 2", lst()),
    Case("gaps in the classes", LIST, lst("0\t4\tdisc/000.png")),
    Case("class beyond the training data's", f"{LIST} --validation data/val.lst",
         file("data/val.lst", "0\t7\tdisc/000.png\n", after=lst())),  # fmt: skip
    Case("more lines left out than allowed", LIST, lst("0\t0\tdisc/x.png", "1\t0\tdisc/y.png")),
    Case("complaint 18: empty .rec", RECORDS, file("train.rec")),
    Case("complaint 11: JPEG where RecordIO should be", RECORDS, file("train.rec", b"\xff\xd8\xff\xe0" + bytes(60))),
    Case("complaint 12: cut record, none allowed", f"{RECORDS} --bad-records-limit 0", rec((0,), (1,), (0,), cut=9)),
    Case("table without a label", TABLE, csv("file,colour\ndisc/000.png,red\n")),
    Case("table without the column asked for", f"{TABLE} --label-column kind", csv("file,label\ndisc/000.png,disc\n")),
    Case("table in another encoding", TABLE, csv("file,label\nb\xe4r.png,b\xe4r\n".encode("latin-1"))),
    Case("table with a short row", TABLE, csv("file,label\ndisc/000.png,disc\nsquare/000.png\n")),
    Case("table with an open quote", TABLE, csv('file,label\n"disc/000.png,disc\n')),
    Case("table without rows", TABLE, csv("file,label\n")),
    Case("table with an unknown split", TABLE, csv("file,label,split\ndisc/000.png,disc,dev\n")),
    Case("table without its pictures", TABLE, csv("file,label\ncat.png,cat\n")),
    # weights to start from
    Case("weights that are not there", f"{SHAPES} --weights nowhere.safetensors"),
    Case("weights of another network", f"{SHAPES} --weights run/model/model.safetensors --num-layers 18"),
    Case("weights of unknown normalisation", f"{SHAPES} --weights run/model/model.safetensors"),
    Case("weights of an unknown kind of file", f"{SHAPES} --weights run/model.tar.gz"),
    Case("weights that are code", f"{SHAPES} --weights w.pth", file("w.pth", pickle.dumps(Code()))),
    Case("weights cut short", f"{SHAPES} --weights w.safetensors", file("w.safetensors", bytes(4))),
    Case("folder without weights", f"{SHAPES} --weights shapes"),
    Case("variable that names no weights", f"{SHAPES} --use-pretrained-model 1 --num-layers 18",
         variables=(("FOVEAL_WEIGHTS", "/nowhere"),)),  # fmt: skip
    Case("depth without public weights", f"{SHAPES} --use-pretrained-model 1 --num-layers 200"),
    # a run and its folder
    Case("output that is a file", f"{SHAPES} --output file", file("file")),
    Case("TensorBoard's folder is a file", f"{SHAPES} --tensorboard file", file("file")),
    Case("file where the run writes one", SHAPES, lambda here: (here / "out/metrics.jsonl").mkdir(parents=True)),
    Case("run with other settings", f"{SHAPES} --epochs 2", a_run()),
    Case("damaged description of a run", SHAPES, a_run(lambda out: (out / "run.json").write_text("{"))),
    Case("finished run without its model", SHAPES, a_run(lambda out: shutil.rmtree(out / "model"))),
    Case("loss that is not finite", f"{SHAPES} --optimizer rmsprop --eps 0 --gamma 1"),
    Case("earlier model of another depth", f"{SHAPES} --model run --num-layers 32"),
    Case("class of the earlier model is gone", f"{DATA} --model run", lambda here: shutil.rmtree(pictures(here) / "disc")),
    # artifacts
    Case("no such model", "predict nowhere shapes/test/disc"),
    Case("folder that is no model", "predict shapes shapes/test/disc"),
    Case("archive of another program", "predict model.tar.gz shapes/test", archive(tar_of_another_program)),
    Case("cut archive", "inspect model.tar.gz", archive(lambda content: content[:5000])),
    Case("zip archive", "predict model.tar.gz shapes/test", archive(lambda content: b"PK\x03\x04" + bytes(600))),
    Case("archive without weights", ASK, model(lambda folder: (folder / "model.safetensors").unlink())),
    Case("weights of another model", ASK, described(sha256="0" * 64)),
    Case("newer format", ASK, described(format=2)),
    Case("description cut short", ASK, model(lambda folder: (folder / "foveal.json").write_text('{"format": 1,'))),
    Case("description that lacks something", ASK, described(preprocessing=None)),
    Case("description of another number of classes", ASK, described(class_names=["disc", "square"])),
    Case("network of an unknown family", ASK, described(network={"family": "forest"})),
    Case("preprocessing of a later version", ASK, described(preprocessing={"kind": "tiles"})),
    Case("preprocessing for other channels", ASK, described(preprocessing={"channels": 1})),
    Case("model of another algorithm", ASK, described(algorithm="object-detection")),
    Case("weights of another shape", ASK, weights(lambda t: t.update({"body.fc.weight": torch.zeros(3, 5)}))),
    Case("weights that are not finite", ASK, weights(lambda t: t["body.fc.weight"].fill_(torch.nan))),
    Case("epoch that was not stored", "evaluate run shapes --epoch 3"),
    # asking and judging
    Case("no such picture", "predict run cat.jpg"),
    Case("folder without pictures", "predict run empty", lambda here: (here / "empty").mkdir()),
    Case("file in the place of the folder for drawings", "predict run shapes/test/disc --draw file", file("file")),
    Case("split that is not there", "evaluate run shapes/test --split test"),
    Case("split of other data", "evaluate run shapes/test --split validation"),
    Case("class that the model does not know", "evaluate run data", lambda here: shutil.copytree(
        "shapes/train/disc", here / "data/moon")),  # fmt: skip
    Case("class number that the model does not have", "evaluate run train.rec", rec((0,), (7,))),
    Case("complaint 37: not one readable picture", "evaluate run data", bomb),
    # packing
    Case("packed before", "pack shapes packed", file("packed/train.rec")),
    Case("nothing to pack", "pack data packed", all_unreadable),
    Case("packed into a file", "pack shapes file", file("file")),
]


def texts() -> dict[str, str]:
    """The sections of ``errors.txt``: name -> text."""
    found: dict[str, str] = {}
    for section in TEXTS.read_text(encoding="utf-8").split("\n\n")[1:]:
        name, _, text = section.partition("\n")
        found[name.removeprefix("[").removesuffix("]")] = text.rstrip("\n")
    return found


def place(error: BaseException | None) -> str:
    """The line of ours, or the parameter of click's, where an error was first raised."""
    assert error is not None
    inner = error.__cause__ or error.__context__
    while isinstance(error, UserError) and isinstance(inner, UserError | ValueError) and _line(inner):
        error, inner = inner, inner.__cause__ or inner.__context__
    if isinstance(error, click.ClickException):
        return f"click: {error.format_message()}"
    return _line(error)


def _line(error: BaseException) -> str:
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    return f"{ours[-1].filename}:{ours[-1].lineno}" if ours else ""


PLACES: dict[str, str] = {}
"""Where in the code each case failed -> its name; filled as the cases run."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_told_what_is_wrong_and_what_to_do(case: Case, ask: Callable[..., Said]) -> None:
    if case.prepare is not None:
        case.prepare(Path())
    said = ask(words(case.command), case.variables)
    assert said.error_lines == texts()[case.name]
    assert said.status == 2
    assert PLACES.setdefault(place(said.error), case.name) == case.name, "this check has a case already"
