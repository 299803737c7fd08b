"""A page for people: a heading, facts, and sections with tables and pictures.

Everything that is shown is escaped; the page runs no script and asks for nothing, so it can be mailed and archived.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

QUALITY = 82  # of the JPEGs inside


@dataclass(frozen=True)
class Shown:
    """A picture, as ``data:`` address (``inside`` makes one), and what stands below it."""

    address: str
    caption: str


@dataclass(frozen=True)
class Table:
    """``head`` names the columns; every row has as many cells. Cells after the first stand at the right, but for the
    last where it is ``prose``."""

    head: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    prose: bool = False


@dataclass(frozen=True)
class Drawing:
    """A chart of ``foveal.report.charts``, and what stands below it; a ``large`` one keeps its size and scrolls."""

    svg: str
    caption: str = ""
    large: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        mark: colours the heading. title, text: what it is about. lines: a list below it.
        charts: side by side where there is room. tables: one after another. wide: one large picture.
        groups: small ones; those of one group stand together. roomy: these are larger.
    """

    title: str
    text: str = ""
    mark: Literal["", "note", "warning", "error"] = ""
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    wide: Shown | None = None
    groups: tuple[tuple[Shown, ...], ...] = ()
    roomy: bool = False
    charts: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole page; ``facts`` stand below the title, a line each."""

    title: str
    facts: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default=())


def render(page: Page) -> str:
    """The page as HTML."""
    return _template().render(page=page, is_number=lambda value: isinstance(value, int | float))


def inside(picture: Image.Image, lossless: bool = False) -> str:
    """A picture as a ``data:`` address that a page can hold: a JPEG, or a PNG."""
    buffer, kind = io.BytesIO(), "png" if lossless else "jpeg"
    picture.save(buffer, kind, quality=QUALITY)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@cache
def _template() -> Template:
    source = files("foveal.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
