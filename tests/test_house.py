"""The house: which room may import which (docs/design.md), and how long files and functions may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "foveal"

# A room is a folder or a module directly under src/foveal. It may import itself and rooms on lower floors.
FLOORS = {
    "errors": 0,
    "records": 0,
    "progress": 0,
    "files": 0,
    "kinds": 0,
    "settings": 1,
    "formats": 1,
    "metrics": 1,
    "storage": 1,
    "draw": 1,
    "report": 1,
    "judging": 2,
    "models": 2,
    "weights": 2,
    "data": 2,
    "mxnet": 2,
    "checking": 3,
    "converting": 3,
    "algorithms": 3,
    "artifact": 3,
    "training": 4,
    "explain": 4,
    "predictor": 4,
    "evaluation": 4,
    "comparison": 4,
    "exporting": 4,
    "display": 5,
    "pages": 5,
    "serving": 5,
    "transform": 5,
    "tuning": 5,
    "container": 6,
    "service": 6,
    "cli": 7,
    "__init__": 7,
    "__main__": 8,
}
# Rooms that share a floor and lean on one another, each with the reason; never in both directions.
BESIDE = {
    ("files", "errors"): "a locked folder is told as a UserError",
    ("formats", "storage"): "a picture may be an object in a store, fetched when it is read",
    ("weights", "models"): "weights are recognised by the networks they fit",
    ("algorithms", "artifact"): "incremental training takes network and preprocessing from an earlier model",
    ("exporting", "predictor"): "a graph answers what the predictor answers",
    ("predictor", "explain"): "a predictor tells where its answers come from",
    ("tuning", "display"): "each run of a tuning shows its progress in a log of its own",
    ("comparison", "evaluation"): "comparing is evaluating twice",
    ("comparison", "predictor"): "and asks predictors",
    ("evaluation", "predictor"): "evaluating is asking a predictor about labelled pictures",
}
WITHOUT_TORCH = {
    "errors",
    "records",
    "progress",
    "files",
    "kinds",
    "settings",
    "formats",
    "metrics",
    "storage",
    "draw",
    "report",
}
QUICK = {"cli", "__init__", "settings", "formats"}  # rooms at doors: no torch when they are imported

LONGEST_FILE = 600  # lines
LONGEST_FUNCTION = 80
LONGEST_LOOP = 150  # the training loop, where the road is straight

MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Full names and lines of everything imported, also inside functions and by import_module("...")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.split(".")
            if words[0] == "foveal" and len(words) > 1 and words[1] in FLOORS:
                yield node.value, node.lineno


def at_import_time(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported: outside functions and ``if TYPE_CHECKING``."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            waiting += [child for child in getattr(node, part, []) if isinstance(child, ast.stmt)]


def our_rooms(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for name, line in imported(tree):
        words = name.split(".")
        if words[0] == "foveal":
            yield (words[1] if len(words) > 1 and words[1] in FLOORS else "__init__"), line


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_module_lives_in_a_room_of_the_table(path: Path) -> None:
    assert room(path) in FLOORS


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    wrong = [
        f"line {line}: {here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]})"
        for there, line in our_rooms(parsed(path))
        if there != here and FLOORS[there] >= FLOORS[here] and (here, there) not in BESIDE
    ]
    # the command line is a door beside the Python API: it may use what the package itself offers
    assert [line for line in wrong if "cli (floor 7) imports __init__" not in line] == []


def test_no_two_rooms_lean_on_each_other() -> None:
    assert [pair for pair in BESIDE if pair[::-1] in BESIDE] == []


def test_modules_import_each_other_in_no_circle() -> None:
    names = {".".join(("foveal", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    edges: dict[str, set[str]] = {}
    for name, path in names.items():
        found = {each for each, _ in imported(parsed(path)) if each.startswith("foveal.")}
        edges[name] = {each if each in names else each.rpartition(".")[0] for each in found} & set(names) - {name}
    del edges["foveal"]  # it loads its names lazily, when they are asked for
    while free := {name for name, others in edges.items() if not others & set(edges)}:
        edges = {name: others for name, others in edges.items() if name not in free}
    assert edges == {}


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in WITHOUT_TORCH], ids=str)
def test_the_lower_rooms_know_no_torch(path: Path) -> None:
    heavy = ("torch", "timm", "torchvision")
    assert [line for name, line in imported(parsed(path)) if name.split(".")[0] in heavy] == []


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in QUICK], ids=str)
def test_rooms_at_the_doors_import_torch_only_when_it_is_needed(path: Path) -> None:
    roots = {
        name.split(".")[0]
        for node in at_import_time(parsed(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name, _ in imported(node)
    }
    assert roots & {"torch", "timm", "torchvision", "huggingface_hub"} == set()


def test_importing_foveal_and_the_command_line_imports_no_torch() -> None:
    code = "import sys, foveal, foveal.cli.main, foveal.settings; print(sorted({'torch', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_files_and_functions_stay_readable(path: Path) -> None:
    tree = parsed(path)
    most = LONGEST_LOOP if path.relative_to(PACKAGE).as_posix() == "training/loop.py" else LONGEST_FUNCTION
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > most
    }
    assert long == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_no_code_is_run_from_data() -> None:
    """No pickle, no eval or exec; torch.load only with weights_only=True."""
    wrong = []
    for path in MODULES:
        tree = parsed(path)
        where = path.relative_to(PACKAGE)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            forbidden = called in ("eval", "exec") or called.startswith(("pickle.", "marshal.", "dill."))
            if forbidden or (called == "torch.load" and not safe):
                wrong.append(f"{where}:{node.lineno} {called}")
    assert wrong == []
