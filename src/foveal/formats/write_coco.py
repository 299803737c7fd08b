"""Writes COCO JSON (``formats/coco.py`` reads it). Category ids count from 1, as COCO's own do.

The file is written piece by piece: annotations wait in a file of their own, so that nothing grows with the data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from foveal.formats.writing import Entry, boxes_in, left_top_width_height, plain_number, text_file


def write_coco(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``base.json``, whose ``file_name`` is relative to ``pictures`` where that is called like the split."""
    path = root / f"{base}.json"
    prefix = "" if Path(pictures).name == base.rpartition("_")[2] else f"{pictures}/"
    waiting = path.with_name(path.name + ".annotations")
    with text_file(path) as file, text_file(waiting) as later:
        file.write('{"images": [')
        count = 0
        for entry in entries:
            width, height = entry.size
            image = {"id": entry.number, "file_name": prefix + entry.file, "width": width, "height": height}
            file.write(("," if entry.number else "") + "\n" + json.dumps(image, ensure_ascii=False))
            for line in _annotations(entry):
                count += 1
                later.write(("," if count > 1 else "") + "\n" + json.dumps({"id": count, **line}))
        file.write('\n],\n"annotations": [')
        later.flush()
        with waiting.open(encoding="utf-8") as written:
            shutil.copyfileobj(written, file)
        categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, start=1)]
        file.write(f'\n],\n"categories": {json.dumps(categories, ensure_ascii=False)}}}\n')
    waiting.unlink()


def _annotations(entry: Entry) -> list[dict[str, object]]:
    boxes = boxes_in(entry, "pixel")
    return [
        {
            "image_id": entry.number,
            "category_id": int(kind) + 1,
            "bbox": box,
            "area": plain_number(round(box[2] * box[3], 3)),
            "iscrowd": int(crowd),
        }
        for kind, box, crowd in zip(boxes.cls, left_top_width_height(boxes), boxes.crowd, strict=True)
    ]
