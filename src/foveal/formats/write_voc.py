"""Writes Pascal VOC: an XML file for each picture, and the split's list (``formats/voc.py`` reads them).

Coordinates count from 0, with decimals where there are some: pixels are neither added nor rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from foveal.formats.writing import Entry, boxes_in, corners, number_text, text_file


def write_voc(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``Annotations/*.xml`` and ``ImageSets/Main/base.txt``."""
    with text_file(root / "ImageSets" / "Main" / f"{base}.txt") as listing:
        for entry in entries:
            stem = entry.file.rpartition(".")[0]
            with text_file(root / "Annotations" / f"{stem}.xml") as file:
                file.write(_xml(entry, pictures, names))
            listing.write(f"{stem}\n")


def _xml(entry: Entry, pictures: str, names: Sequence[str]) -> str:
    width, height = entry.size
    boxes = boxes_in(entry, "pixel")
    lines = [
        "<annotation>",
        f" <folder>{escape(pictures)}</folder>",
        f" <filename>{escape(entry.file)}</filename>",
        f" <size><width>{width}</width><height>{height}</height><depth>{entry.depth}</depth></size>",
        " <segmented>0</segmented>",
    ]
    marks = boxes.difficult | boxes.crowd
    for kind, box, difficult in zip(boxes.cls, corners(boxes), marks, strict=True):
        tags = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        lines += [
            " <object>",
            f"  <name>{escape(names[kind])}</name>",
            f"  <truncated>0</truncated><difficult>{int(difficult)}</difficult>",
            "  <bndbox>" + "".join(f"<{tag}>{number_text(value)}</{tag}>" for tag, value in tags) + "</bndbox>",
            " </object>",
        ]
    return "\n".join([*lines, "</annotation>\n"])
