"""What a person is told who gave something wrong: the whole text, exit status 2, never a traceback.

Each case is a real command on real files, and each comes from a check of its own in the code (``place`` below
finds it). The texts are in ``tests/fixtures/roads/errors.txt``, where they can be read one after another. Where
a case is one of the complaints about the original that the reference lists in section 7, its name says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest
import safetensors.torch
import torch
from PIL import Image

import foveal
from foveal.artifact import Artifact, write_artifact
from foveal.cli.main import main
from foveal.errors import UserError
from foveal.files import lock
from foveal.models.detector import DetectorSpec, build_detector

PACKAGE = Path(foveal.__file__).parent
TEXTS = Path(__file__).parents[1] / "fixtures" / "roads" / "errors.txt"
QUICK = "--num-layers 20 --image-shape 3,32,32 --epochs 1 --mini-batch-size 8 --use-pretrained-model 0".split()
QUICK_BOXES = (
    "--base-network mobilenetv3_small_050 --image-shape 300 --epochs 1 --mini-batch-size 8 --use-pretrained-model 0"
).split()
CLASSES = {"disc": 0, "square": 1, "triangle": 2}

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A command and, before it, what is put into the folder that it is run in.

    There lie ``shapes`` and ``run``, a classifier of them; ``boxes`` and ``found``, a detector of them. ``boxes`` here
    says that a training is one of object detection.
    """

    name: str
    command: str
    prepare: Prepare | None = None
    variables: tuple[tuple[str, str], ...] = ()
    boxes: bool = False

    @property
    def words(self) -> list[str]:
        return words(self.command, QUICK_BOXES if self.boxes else QUICK)


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str
    error: BaseException | None

    @property
    def told(self) -> str:
        """Warnings, and the error from its first line to the end; the lines that tell decisions are left out."""
        lines = self.err.splitlines()
        first = next((n for n, line in enumerate(lines) if line.startswith(("Error: ", "Usage: "))), len(lines))
        told = "\n".join([*(line for line in lines[:first] if line.startswith("Warning: ")), *lines[first:]])
        return re.sub(r"\btimm \d+\.\d+\.\d+\S*", "timm N", told)  # the version changes


def words(command: str, quick: list[str] = QUICK) -> list[str]:
    """The words of a command; ``train`` gets quick settings and a folder for its run."""
    first, *rest = shlex.split(command)
    return [first, *quick, "--output", "out", *rest] if first == "train" else [first, *rest]


@pytest.fixture(scope="module")
def world(shapes_folder: Path, write_boxes: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``shapes/{train,test}/CLASS/*`` (12 and 4 pictures a class) and ``run``, a model of them; ``boxes`` (Pascal VOC,
    8 and 4 pictures) and ``found``, a model of these."""
    root = tmp_path_factory.mktemp("errors")
    for split, count in (("train", 12), ("test", 4)):
        for name in CLASSES:
            (root / "shapes" / split / name).mkdir(parents=True)
            for file in sorted((shapes_folder / split / name).iterdir())[:count]:
                shutil.copy(file, root / "shapes" / split / name)
    settings = dict(
        zip(
            ("num_layers", "image_shape", "epochs", "mini_batch_size", "use_pretrained_model"), QUICK[1::2], strict=True
        )
    )
    foveal.train(root / "shapes", root / "run", **settings)
    write_boxes(root / "boxes", {"train": 8, "val": 4}, seed=3, empty_every=100)
    names = [name[2:].replace("-", "_") for name in QUICK_BOXES[::2]]
    run = foveal.train(root / "boxes", root / "finding", **dict(zip(names, QUICK_BOXES[1::2], strict=True)))
    shutil.copytree(run.model, root / "found")
    shutil.rmtree(root / "finding")
    return root


def lay_out(world: Path, folder: Path) -> None:
    """A copy of ``world``, in which the large ``found`` is the same files, which no case changes."""
    shutil.copytree(world, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("found"))
    shutil.copytree(world / "found", folder / "found", copy_function=os.link)


@pytest.fixture
def ask(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs a command in this process, by the function that the installed ``foveal`` calls, in a folder of its own."""
    lay_out(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOVEAL_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

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
    """A JPEG of a few bytes that claims 60,000 x 60,000 pixels, alone in what is judged."""
    picture = bytearray(Path("shapes/train/disc/001.jpg").read_bytes())
    frame = picture.index(b"\xff\xc0")  # start of frame: marker, length, precision, height, width
    picture[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    file("data/disc/bomb.jpg", bytes(picture))(here)


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


class Code:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo broken into > broken-into",)


# The same for boxes


def boxes(change: Callable[[Path], object]) -> Prepare:
    """A copy of ``boxes``, changed."""

    def make(here: Path) -> None:
        shutil.copytree("boxes", here / "data")
        change(here / "data")

    return make


def annotation(*changes: tuple[str, str], name: str = "train000", count: int = 1) -> Callable[[Path], object]:
    """Replaces texts in an annotation of Pascal VOC, or in its first ``count`` ones."""

    def change(data: Path) -> None:
        for number in range(count):
            path = data / "Annotations" / f"{name[:-3]}{int(name[-3:]) + number:03d}.xml"
            text = path.read_text(encoding="utf-8")
            for pattern, new in changes:
                text, replaced = re.subn(pattern, new, text, count=1)
                assert replaced, pattern
            path.write_text(text, encoding="utf-8")

    return change


def odd_labels(data: Path) -> None:
    """An annotation that is no XML, a box without area, one outside its picture."""
    annotation(("</annotation>", ""))(data)
    annotation((r"<xmax>\d+", "<xmax>0"), name="train001")(data)
    annotation((r"<xmin>\d+</xmin>", "<xmin>900</xmin>"), (r"<xmax>\d+", "<xmax>950"), name="train002")(data)


def coco(**changes: object) -> Prepare:
    """Two pictures and ``data/train.json``, of which lists are replaced; None takes one out."""

    def make(here: Path) -> None:
        shutil.copytree("boxes/JPEGImages", here / "data/images")
        content = {
            "images": [{"id": 1, "file_name": "train000.jpg"}, {"id": 2, "file_name": "train001.jpg"}],
            "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]}],
            "categories": [{"id": 3, "name": "disc"}],
        }
        kept = {name: value for name, value in {**content, **changes}.items() if value is not None}
        (here / "data/train.json").write_text(json.dumps(kept), encoding="utf-8")

    return make


def yolo(described: str, line: str = "0 0.5 0.5 0.4 0.4", labels: str = "labels") -> Prepare:
    """``data/data.yaml`` as given, and eight pictures with a label each, of which the first has ``line``."""

    def make(here: Path) -> None:
        for number, path in enumerate(sorted(Path("boxes/JPEGImages").glob("train*"))):
            for folder in ("images", labels):
                (here / "data/train" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, here / "data/train/images")
            text = line if number == 0 else "0 0.5 0.5 0.4 0.4"
            (here / "data/train" / labels / f"{path.stem}.txt").write_text(text + "\n", encoding="utf-8")
        (here / "data/data.yaml").write_text(described, encoding="utf-8")

    return make


def sagemaker_json(*names: str) -> Prepare:
    """Pictures with a JSON each, in which class 0 has these names."""

    def make(here: Path) -> None:
        for folder in ("train", "train_annotation"):
            (here / "data" / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            shutil.copy(f"boxes/JPEGImages/train{number:03d}.jpg", here / "data/train" / f"{number}.jpg")
            content = {
                "file": f"{number}.jpg",
                "image_size": [{"width": 90, "height": 90, "depth": 3}],
                "annotations": [{"class_id": 0, "left": 1, "top": 1, "width": 20, "height": 20}],
                "categories": [{"class_id": 0, "name": name}],
            }
            (here / "data/train_annotation" / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")

    return make


def vgg(side: int) -> Prepare:
    """``model``, a narrow detector on VGG-16, untrained, that says it takes pictures of ``side`` pixels."""

    def make(here: Path) -> None:
        spec = DetectorSpec("vgg-16", 3, (3, 300, 300), width=1 / 16, mean=(120.0,) * 3, std=(60.0,) * 3)
        stored = json.loads(Path("found/foveal.json").read_text(encoding="utf-8"))
        artifact = Artifact(
            algorithm="object-detection",
            network={**spec.as_dict(), "image_shape": [3, side, side]},
            class_names=tuple(stored["class_names"]),
            preprocessing={**stored["preprocessing"], "height": side, "width": side},
            settings=stored["settings"],
        )
        write_artifact(here / "model", artifact, build_detector(spec).state_dict())

    return make


LIST, TABLE, RECORDS = "train data/list.lst", "train data/table.csv", "train train.rec"
ASK = "predict model shapes/test/disc/000.png"
DATA = "train data"
SHAPES = "train shapes"
FIND = "train boxes"
FIND_RECORDS = f"{RECORDS} --algorithm object-detection"
PICTURE = "boxes/JPEGImages/val000.jpg"
SOUND = (2, 5, 0, 0.1, 0.1, 0.5, 0.5)  # the label of a picture with one object

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
    Case("several labels and the k likeliest", f"{SHAPES} --multi-label 1 --top-k 5"),
    Case("no pair", f"{SHAPES} --set num_layers:18"),
    Case("option as a hyperparameter", f"{SHAPES} --set model=run"),
    Case("empty path", "train ''"),
    Case("device that is none", "predict run shapes/test/disc --device gpu"),
    # data
    Case("no such folder", "train photos"),
    Case("archive that is cut short", "train photos.zip", file("photos.zip", b"PK\x03\x04")),
    Case("archive of a kind that is not read", "train photos.rar", file("photos.rar", b"Rar!")),
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
    Case("blank name of a class", DATA, classes_txt("disc\n\nsquare\n")),
    Case("class named twice", DATA, classes_txt("disc\nsquare\ndisc\n")),
    Case("no names of classes", DATA, classes_txt("")),
    Case("fewer classes asked for than there are", f"{SHAPES} --num-classes 2"),
    Case("no validation data in recipe original", f"{SHAPES} --recipe original"),
    Case(
        "one picture a class", LIST, file("data/list.lst", "0\t0\tdisc/000.png\n1\t1\tsquare/000.png\n", after=pictures)
    ),
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
    Case(
        "class beyond the training data's",
        f"{LIST} --validation data/val.lst",
        file("data/val.lst", "0\t7\tdisc/000.png\n", after=lst()),
    ),
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
    Case("folder without weights", f"{SHAPES} --weights shapes"),
    Case(
        "variable that names no weights",
        f"{SHAPES} --use-pretrained-model 1 --num-layers 18",
        variables=(("FOVEAL_WEIGHTS", "/nowhere"),),
    ),
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
    Case(
        "class of the earlier model is gone", f"{DATA} --model run", lambda here: shutil.rmtree(pictures(here) / "disc")
    ),
    # artifacts
    Case("no such model", "predict nowhere shapes/test/disc"),
    Case("folder that is no model", "predict shapes shapes/test/disc"),
    Case("cut archive", "inspect model.tar.gz", archive(lambda content: content[:5000])),
    Case("zip archive", "predict model.tar.gz shapes/test", archive(lambda content: b"PK\x03\x04" + bytes(600))),
    Case("weights of another model", ASK, described(sha256="0" * 64)),
    Case("newer format", ASK, described(format=2)),
    Case("description cut short", ASK, model(lambda folder: (folder / "foveal.json").write_text("{"))),
    Case("description of another number of classes", ASK, described(class_names=["disc", "square"])),
    Case("network of an unknown family", ASK, described(network={"family": "forest"})),
    Case("preprocessing of a later version", ASK, described(preprocessing={"kind": "letterbox"})),
    Case("preprocessing for other channels", ASK, described(preprocessing={"channels": 1})),
    Case("model of another algorithm", ASK, described(algorithm="semantic-segmentation")),
    Case("weights of another shape", ASK, weights(lambda t: t.update({"body.fc.weight": torch.zeros(3, 5)}))),
    Case("weights that are not finite", ASK, weights(lambda t: t["body.fc.weight"].fill_(torch.nan))),
    Case("epoch that was not stored", "evaluate run shapes --epoch 3"),
    # asking and judging
    Case("no such picture", "predict run cat.jpg"),
    Case("folder without pictures", "predict run empty", lambda here: (here / "empty").mkdir()),
    Case("file in the place of the folder for drawings", "predict run shapes/test/disc --draw file", file("file")),
    Case("split that is not there", "evaluate run shapes/test --split test"),
    Case("split of other data", "evaluate run shapes/test --split validation"),
    Case(
        "class that the model does not know",
        "evaluate run data",
        lambda here: shutil.copytree("shapes/train/disc", here / "data/moon"),
    ),
    Case("class number that the model does not have", "evaluate run train.rec", rec((0,), (7,))),
    Case("complaint 37: picture too large to be read", "evaluate run data", bomb),
    # packing
    Case("packed before", "pack shapes packed", file("packed/train.rec")),
    Case("nothing to pack", "pack data packed", all_unreadable),
    Case("packed into a file", "pack shapes file", file("file")),
]

BOX_CASES = [
    # settings
    Case("sides that differ", f"{FIND} --image-shape 3,300,200"),
    Case("base_network without its hyphen", f"{FIND} --base-network resnet50"),
    Case("network that timm lacks", f"{FIND} --base-network mobilenet_v3_smal"),
    Case("network without the maps", f"{FIND} --base-network vit_tiny_patch16_224 --image-shape 320"),
    Case("pattern that is none", f"{FIND} --freeze-layer-pattern 'conv1_('"),
    Case("everything frozen", f"{FIND} --model found --freeze-layer-pattern .*"),
    Case(
        "weights for the original's ResNet-50",
        f"{FIND} --base-network resnet-50 --resnet pre --use-pretrained-model 1",
    ),
    Case(
        "weights that no detector is built on",
        f"{FIND} --base-network '' --weights run/model/model.safetensors --weights-normalisation raw",
    ),
    # data
    Case("boxes asked for in the form of classes", "train shapes --algorithm object-detection --format folder"),
    Case("complaint 17: label without its header", FIND_RECORDS, rec(SOUND, (0, 0.1, 0.1, 0.5, 0.5))),
    Case("complaint 17: coordinates in per cent", FIND_RECORDS, rec(SOUND, (2, 5, 0, 10, 10, 50, 95.5))),
    Case("coordinate that is no number", FIND_RECORDS, rec(SOUND, (2, 5, 0, 0.1, float("nan"), 0.5, 0.5))),
    Case("no object at all", FIND_RECORDS, rec((2, 5), (2, 5))),
    Case("Pascal VOC without its pictures", DATA, boxes(lambda data: shutil.rmtree(data / "JPEGImages"))),
    Case(
        "object of a class that training lacks",
        DATA,
        boxes(annotation((r"<name>\w+</name>", "<name>moon</name>"), name="val000")),
    ),
    Case("COCO without categories", "train data/train.json", coco(categories=None)),
    Case("COCO that is cut short", "train data.json --format coco", file("data.json", '{"images": [')),
    Case("category twice", DATA, coco(categories=[{"id": 3, "name": "disc"}, {"id": 3, "name": "square"}])),
    Case("name of a category twice", DATA, coco(categories=[{"id": 3, "name": "disc"}, {"id": 4, "name": "disc"}])),
    Case("category without a name", DATA, coco(categories=[{"id": 3}])),
    Case("picture twice", DATA, coco(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}])),
    Case("picture without a file", DATA, coco(images=[{"id": 1}])),
    Case(
        "two COCO files for one split",
        DATA,
        file("data/train2.json", '{"images": [], "annotations": [], "categories": []}', after=coco()),
    ),
    Case("YOLO names that are none", "train data/data.yaml", yolo("names: [disc, '']\ntrain: train/images\n")),
    Case("YOLO name twice", "train data/data.yaml", yolo("names: [disc, disc]\ntrain: train/images\n")),
    Case("YOLO folder that is not there", "train data/data.yaml", yolo("names: [disc]\ntrain: pictures\n")),
    Case("YOLO without training pictures", "train data/data.yaml", yolo("names: [disc]\n")),
    Case(
        "YOLO pictures without labels",
        "train data/data.yaml",
        yolo("names: [disc]\ntrain: train/images\n", labels="boxes"),
    ),
    Case("one class under two names", DATA, sagemaker_json("disc", "ball")),
    # a model to go on from
    Case("earlier model on another network", f"{FIND} --model found --base-network resnet18"),
    Case(
        "earlier model of another size of VGG-16",
        f"{FIND} --model model --base-network vgg-16 --image-shape 512",
        vgg(300),
    ),
    Case("network too small for its pictures", f"predict model {PICTURE}", vgg(200)),
    # asking and judging
    Case("class that the detector does not know", f"predict found {PICTURE} --class moon"),
    Case("ids without results", f"predict found {PICTURE} --coco-ids ids.json"),
    Case(
        "ids from what is no COCO file",
        f"predict found {PICTURE} --coco results.json --coco-ids ids.json",
        file("ids.json", '{"images": []}'),
    ),
    Case(
        "ids of other pictures",
        f"predict found {PICTURE} --min-score 0 --coco results.json --coco-ids ids.json",
        file("ids.json", '{"images": [{"id": 1, "file_name": "cat.jpg"}], "categories": []}'),
    ),
    Case("k best of a detector", "evaluate found boxes --top-k 2"),
    Case("classes where boxes are judged", "evaluate found data/list.lst", lst()),
]
CASES += [replace(case, boxes=True) for case in BOX_CASES]
CASES += [
    Case("classes asked for in the form of boxes", "train boxes --algorithm image-classification --format voc"),
    Case("a detector's option for a classifier", "predict run shapes/test/disc --class disc"),
]


def texts() -> dict[str, str]:
    """The sections of ``errors.txt``: name -> text."""
    _, *parts = re.split(r"^\[(.+)\]\n", TEXTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.rstrip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


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
    if not ours:
        return ""
    # A function may choose between errors that are raised in one line; their first lines differ.
    chosen = error.what.partition("\n")[0] if isinstance(error, UserError) and "\n" in error.what else ""
    return f"{ours[-1].filename}:{ours[-1].lineno} {chosen}"


PLACES: dict[str, str] = {}
"""Where in the code each case failed -> its name; filled as the cases run."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_told_what_is_wrong_and_what_to_do(case: Case, ask: Callable[..., Said]) -> None:
    if case.prepare is not None:
        case.prepare(Path())
    said = ask(case.words, case.variables)
    assert said.told == texts()[case.name]
    assert said.status == 2
    assert PLACES.setdefault(place(said.error), case.name) == case.name, "this check has a case already"


# What is told, and does not stop the work


def grey_pictures(here: Path) -> None:
    for path in pictures(here).rglob("*.*"):
        Image.open(path).convert("L").save(path)


FINE = [
    Case("complaint 5: wrong num_training_samples", f"{SHAPES} --num-training-samples 63"),
    Case("complaint 6: misspelt key", f"{SHAPES} --set lerning_rate=0.1"),
    Case("complaint 12: cut record", RECORDS, rec(*((n % 2,) for n in range(8)), cut=9)),
    Case("unreadable picture", DATA, file("data/disc/000.png", "no picture", after=pictures)),
    Case("setting without effect", f"{SHAPES} --optimizer nag --beta-1 0.8"),
    Case("one class only", DATA, lambda here: shutil.copytree("shapes/train/disc", here / "data/disc")),
    Case("class without pictures", f"{SHAPES} --num-classes 4"),
    Case(
        "settings that do nothing in detection",
        f"{FIND} --set num_layers=18 --freeze-layer-pattern conv1_ --label-width 5 --num-classes 4",
        boxes=True,
    ),
    Case("odd boxes", DATA, boxes(odd_labels), boxes=True),
    Case(
        "size of another picture",
        DATA,
        boxes(annotation((r"<width>\d+", "<width>640"), (r"<height>\d+", "<height>64"))),
        boxes=True,
    ),
    Case(
        "YOLO line of four numbers",
        "train data/data.yaml",
        yolo("names: [disc]\ntrain: train/images\n", line="0 0.5 0.5 0.4"),
        boxes=True,
    ),
]


@pytest.mark.parametrize("case", FINE, ids=lambda case: case.name)
def test_it_is_warned_of_what_is_odd_and_goes_on(case: Case, ask: Callable[..., Said]) -> None:
    if case.prepare is not None:
        case.prepare(Path())
    said = ask(case.words)
    assert said.told == texts()[case.name]
    assert said.status == 0


def test_complaint_16_a_batch_larger_than_the_data_is_lowered(ask: Callable[..., Said]) -> None:
    said = ask(words(f"{SHAPES} --mini-batch-size 1000"))
    line = "Warning: mini_batch_size is lowered from 1000 to 31, as there are 31 training pictures"
    assert line in said.err.splitlines()
    assert said.status == 0


def test_complaint_26_a_model_of_grey_pictures_answers_grey_and_coloured_ones(ask: Callable[..., Said]) -> None:
    grey_pictures(Path())
    assert ask(words(f"{DATA} --image-shape 1,32,32")).status == 0
    said = ask(["predict", "out", "data/disc/000.png", "shapes/test/disc/000.png"])
    assert said.status == 0 and said.err == "" and len(said.out.splitlines()) == 2


def test_an_unreadable_picture_is_named_and_the_others_are_answered(ask: Callable[..., Said]) -> None:
    Path("cat.jpg").write_text("no picture")
    said = ask(["predict", "run", "cat.jpg", "shapes/test/disc/000.png"])
    assert said.status == 1
    assert said.err == (
        "Warning: cat.jpg: is not a picture of a known kind\nWarning: 1 of 2 pictures could not be read\n"
    )
    assert said.out.startswith("shapes/test/disc/000.png  ") and len(said.out.splitlines()) == 1


def test_after_a_wrong_setting_the_same_folder_can_be_used(ask: Callable[..., Said]) -> None:
    assert ask(words(f"{SHAPES} --image-shape 3,64,64")).status == 2
    assert ask(words(SHAPES)).status == 0


def test_code_in_a_file_of_weights_is_not_run(ask: Callable[..., Said]) -> None:
    torch.save({"conv1.weight": Code()}, "w.pth")
    said = ask(words(f"{SHAPES} --weights w.pth"))
    assert said.status == 2 and said.told.startswith("Error: w.pth: ")
    assert not Path("broken-into").exists()


def test_names_of_files_cannot_write_on_the_terminal(ask: Callable[..., Said]) -> None:
    Path("\x1b[31mcat\n.jpg").write_text("no picture")
    assert ask(["predict", "run", "\x1b[31mcat\n.jpg"]).err.splitlines()[0] == (
        r"Warning: \x1b[31mcat\n.jpg: is not a picture of a known kind"
    )


# In processes of their own, as a person runs them


@pytest.fixture
def process(world: Path, tmp_path: Path) -> Callable[..., Said]:
    lay_out(world, tmp_path)

    def run(command: str, limit: str = "", **variables: str) -> Said:
        line = shlex.join([sys.executable, "-m", "foveal.cli.main", *words(command)])
        done = subprocess.run(
            ["sh", "-c", f"{limit} exec {line}"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(PACKAGE.parent),
                "HF_HUB_OFFLINE": "1",
                "HF_ENDPOINT": "",
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Said(done.returncode, done.stdout, done.stderr, None)

    return run


def test_an_error_ends_the_process_with_status_2(process: Callable[..., Said]) -> None:
    said = process(f"{SHAPES} --set lerning_rate=0.1 --strict 1")
    assert (said.status, said.out, said.told) == (2, "", texts()["complaint 6: misspelt key, strict=1"])


def test_without_the_hub_the_way_to_weights_is_told(process: Callable[..., Said], tmp_path: Path) -> None:
    said = process(
        f"{SHAPES} --use-pretrained-model 1 --num-layers 18", HF_HOME=str(tmp_path / "hub"), FOVEAL_WEIGHTS=""
    )
    assert (said.status, said.told) == (2, texts()["hub that is not reachable"])


@pytest.mark.skipif(sys.platform == "win32", reason="locks otherwise")
def test_a_folder_is_trained_into_by_one_process_at_a_time(process: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with lock(tmp_path / "out", "held by the test"):
        said = process(SHAPES)
    assert (said.status, said.told) == (2, texts()["folder that another process trains into"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_a_full_disk_is_told(process: Callable[..., Said]) -> None:
    said = process(SHAPES, limit="ulimit -f 300;")  # blocks of 512 bytes; the weights have a megabyte
    assert said.status == 2
    assert said.told.startswith("Error: out/model/model.safetensors: can't be written: ")
    assert said.told.endswith("\nLook whether there is room on the disk.")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory work otherwise elsewhere")
def test_too_little_memory_names_what_to_make_smaller(process: Callable[..., Said]) -> None:
    said = process(f"{SHAPES} --num-layers 18 --image-shape 3,6000,6000 --loader-workers 0", limit="ulimit -v 5000000;")
    assert (said.status, said.told) == (2, texts()["memory that does not suffice"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there(ask: Callable[..., Said]) -> None:
    said = ask(words(f"{SHAPES} --device cuda"))
    text = texts()["card that is not there"]
    assert said.told == (text.replace(" (this torch is a build without CUDA)", "") if torch.version.cuda else text)
    assert said.status == 2


def test_every_text_is_used() -> None:
    elsewhere = {
        "hub that is not reachable",
        "folder that another process trains into",
        "memory that does not suffice",
        "card that is not there",
    }
    assert set(texts()) == {case.name for case in [*CASES, *FINE]} | elsewhere
