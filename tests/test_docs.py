"""What README and docs promise: commands that exist, links that lead somewhere, settings and names as they are.

python tests/test_docs.py --write     writes docs/settings.md anew from the table of settings
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import foveal
from foveal.cli.main import COMMANDS
from foveal.cli.main import foveal as command_line
from foveal.settings import NAMES, TABLES, Described, defaults, describe_settings, parse_settings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "foveal"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOR_USERS = [page for page in PAGES if page.name not in ("design.md", "CONTRIBUTING.md")]
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

SETTINGS_HEAD = """\
# Settings

<!-- Made by `python tests/test_docs.py --write` from foveal.settings; changes by hand are overwritten. -->

Every setting can be given on the command line (`--num-layers 18`, `--num_layers 18` or `--set num_layers=18`), and in
Python (`foveal.train(..., num_layers=18)`), as a string or a typed value. The columns `original` and `modern` are the
defaults of the two recipes. "chosen" means that the recipe decides it from the pictures, the weights and the processor:
[recipes.md](recipes.md) tells how. Where no default stands, the setting is not used unless it is given. What has the
same range, defaults and meaning in both algorithms stands in the last two tables.
"""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def render_settings() -> str:
    """docs/settings.md as it should be: what the algorithms have of their own, and what is the same in both."""
    tables = {algorithm: _rows(algorithm) for algorithm in TABLES}
    first, second = (set(rows) for rows in tables.values())
    same = [row for row in next(iter(tables.values())) if row in second]
    parts = [SETTINGS_HEAD]
    for title, rows in (
        ("Image classification", [row for row in tables["image-classification"] if row not in second]),
        ("Object detection", [row for row in tables["object-detection"] if row not in first]),
        ("Both algorithms", same),
    ):
        for theirs, words in ((True, "SageMaker's settings"), (False, "settings that Foveal adds")):
            parts.append(f"\n## {title}: {words}\n\n")
            parts.append("| setting | type | allowed | original | modern | meaning |\n|" + " --- |" * 6 + "\n")
            parts += [_settings_row(*row) for row in rows if row[0].ours != theirs]
    return "".join(parts)


def _rows(algorithm: str) -> list[tuple[Described, Described]]:
    """Each row of a table as recipe ``original`` and as ``modern`` have it."""
    return list(zip(describe_settings("original", algorithm), describe_settings("modern", algorithm), strict=True))


def _settings_row(original: Described, modern: Described) -> str:
    cells = (f"`{original.name}`", original.type, original.allowed, original.default, modern.default, original.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def fences(page: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """(line, content) of the code blocks in some languages; "" is a block that names none."""
    text = text_of(page)
    for match in FENCE.finditer(text):
        if match[1] in languages:
            yield text[: match.start()].count("\n") + 1, match[2]


def foveal_lines() -> Iterator[tuple[str, list[str]]]:
    """(where, words after ``foveal``) of every command in a code block, also after ``$``, VARIABLE= or a pipe."""
    for page in FOR_USERS:
        for line, block in fences(page, "", "sh", "bash"):
            for offset, text in enumerate(block.splitlines(), start=1):
                found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:[^|#]*\| )?foveal (.*)", text.strip())
                if found and not text.strip().startswith("To go on:"):
                    yield f"{page.relative_to(ROOT)}:{line + offset}", words_of(found[1])


def words_of(text: str) -> list[str]:
    """The words of a shell command without comments, up to a pipe or a redirection."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    words = list(lexer)
    ends = [number for number, word in enumerate(words) if set(word) <= set("|<>;&")]
    return words[: ends[0]] if ends else words


SHOWN = list(foveal_lines())
PYTHON = [(f"{page.relative_to(ROOT)}:{line}", code) for page in FOR_USERS for line, code in fences(page, "python")]


def command_of(name: str) -> click.Command:
    command = command_line.get_command(click.Context(command_line), name)
    assert command is not None, name
    return command


def test_the_docs_show_commands() -> None:
    assert len(SHOWN) > 30


@pytest.mark.parametrize(("where", "words"), SHOWN, ids=[f"{where} {' '.join(words)}" for where, words in SHOWN])
def test_every_command_shown_can_be_given(where: str, words: list[str]) -> None:
    if words == ["COMMAND", "--help"] or words == ["--help"]:
        return
    assert words[0] in COMMANDS, where
    context = command_of(words[0]).make_context(words[0], words[1:])
    if words[0] == "train":
        given = {name: value for name, value in context.params.items() if name in NAMES and value is not None}
        given |= dict(pair.split("=", 1) for pair in context.params["pairs"])
        fitting = [name for name in TABLES if given.keys() <= {row.name for row in describe_settings("modern", name)}]
        algorithm = context.params["algorithm"] or fitting[0]  # else by the data, which is not there
        parsed = parse_settings(given, recipe=context.params["recipe"], algorithm=algorithm, strict=True)
        assert parsed.warnings == (), where


def test_every_command_and_each_of_its_options_is_told_of() -> None:
    text = "\n".join(map(text_of, FOR_USERS))
    missing = []
    for name in COMMANDS:
        for param in command_of(name).params:
            if isinstance(param, click.Option) and not (name in ("train", "tune") and param.name in NAMES):
                missing += [f"{name} {opt}" for opt in param.opts if opt.startswith("--") and opt not in text]
        if not any(words[0] == name for _, words in SHOWN):
            missing.append(name)
    assert missing == []


def test_every_public_name_is_told_of() -> None:
    text = "\n".join(map(text_of, FOR_USERS))
    assert [name for name in foveal.__all__ if f"foveal.{name}" not in text] == []


@pytest.mark.parametrize(("where", "code"), PYTHON, ids=[where for where, _ in PYTHON])
def test_python_shown_uses_names_that_exist(where: str, code: str) -> None:
    for node in ast.walk(ast.parse(code, filename=where)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foveal"):
            defined = names_in(str(node.module))
            assert [alias.name for alias in node.names if alias.name not in defined] == [], where
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "foveal":
            assert node.attr in foveal.__all__, where


def names_in(module: str) -> set[str]:
    """What a module defines at its top, read without importing it."""
    place = ROOT / "src" / Path(*module.split("."))
    tree = ast.parse(text_of(place / "__init__.py" if place.is_dir() else place.with_suffix(".py")))
    passed_on = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return own | passed_on if place.is_dir() else own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", text_of(page))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme() -> None:
    links = re.findall(r"\]\((docs/[^)#]+)", text_of(ROOT / "README.md"))
    assert {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md")} - set(links) == set()


def test_the_page_of_settings_is_current() -> None:
    assert text_of(SETTINGS_PAGE) == render_settings(), "python tests/test_docs.py --write"


def test_settings_named_in_the_docs_exist() -> None:
    """``name=value`` in running text; fields of our own files and shell variables apart."""
    others = {"weights_only"}
    named = {
        name
        for page in FOR_USERS
        for name in re.findall(r"`([a-z_]+)=[^`]*`", FENCE.sub("", text_of(page)))
        if name not in others
    }
    assert named - set(NAMES) == set()


def test_the_recipes_page_tells_the_numbers_that_decide() -> None:
    number: dict[str, Any] = {}
    for node in ast.parse(text_of(PACKAGE / "algorithms" / "recipe.py")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).strip("()").replace(", ", "").isupper():
            names = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            values = ast.literal_eval(node.value)
            pairs = zip(names, values if len(names) > 1 else [values], strict=True)
            number |= {ast.unparse(name): value for name, value in pairs}
    least, most = number["SCRATCH_EPOCHS"]
    tuned_least, tuned_most = number["TUNED_EPOCHS"]
    phrases = (
        f"3,{number['SIDE_PRETRAINED']},{number['SIDE_PRETRAINED']}",
        f"{number['SCRATCH_SEEN']:,} / pictures, within {least} and {most}",
        f"{number['TUNED_SEEN']:,} / pictures, within {tuned_least} and {tuned_most}",
        f"`num_layers=20` for inputs of up to {number['SMALL']} pixels",
        f"50 on a card with {number['MANY']:,} pictures or more",
        f"up to {number['MIDDLE']} pixels (the median counts)",
        "{0} x {0} on a CPU and {1} x {1} on a card".format(number["SIDE_CPU"], number["SIDE_CARD"]),
        f"`validation_fraction={defaults('modern')['validation_fraction']}`",
    )
    page = " ".join(text_of(ROOT / "docs" / "recipes.md").split())
    assert [phrase for phrase in phrases if phrase not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`|^\$ )make ([a-z]+)", text_of(page), re.MULTILINE)
    assert set(named) - targets == set()


def test_the_expressions_for_log_lines_match_the_lines_shown() -> None:
    page = text_of(ROOT / "docs" / "sagemaker.md")
    table = page.split("| regular expression |")[1].split("\n\n")[0]
    expressions = re.findall(r"^\| .* \| `(.*)` \|$", table, re.MULTILINE)
    assert len(expressions) == 4
    lines = [line for _, block in fences(ROOT / "docs" / "sagemaker.md", "") for line in block.splitlines()]
    for expression in expressions:
        assert [line for line in lines if re.search(expression, line)] != [], expression


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    SETTINGS_PAGE.write_text(render_settings(), encoding="utf-8", newline="\n")
