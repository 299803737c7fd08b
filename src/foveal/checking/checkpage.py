"""The page of a check: what there is, what is odd, and the suspects as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from foveal.checking.examine import BoxSummary, Examination, SplitSummary, Spread, sources_of
from foveal.checking.finding import Finding, Suspect, plural
from foveal.checking.sheet import draw_sheet, label_texts, seen_picture
from foveal.draw import thumbnail
from foveal.errors import BadPicture, UserError
from foveal.progress import track
from foveal.records import Dataset, Source
from foveal.report.page import Page, Section, Shown, Table, inside

SUSPECTS = 24  # of a finding that are shown as pictures
TOGETHER = 4  # pictures of one suspect
LINES = 50  # of a finding's suspects that have no picture
CLASSES = 200  # rows of the table of classes
SIDE = 224  # pixels of a thumbnail


def page_of(examination: Examination, dataset: Dataset | None, quiet: bool = False) -> Page:
    """The page; ``dataset`` is None where the data couldn't be opened."""
    sections: list[Section] = []
    if dataset is not None:
        rows = tuple((name, str(value)) for name, value in examination.advice.items())
        sections += [
            Section("What there is", tables=summary_tables(examination)),
            Section("Settings that fit", tables=(Table(("setting", "value"), rows),)),
        ]
    sources = {} if dataset is None else sources_of(dataset)
    show = _Show(
        sources, examination.class_names, {n: label_texts(s, examination.class_names) for n, s in sources.items()}
    )
    found = track(examination.findings, len(examination.findings), "drawing suspects", quiet=quiet)
    sections += [_section(each, show) for each in found]
    if dataset is not None:
        sections += _overview(dataset)
    verdict = ", ".join(
        plural(sum(each.severity == severity for each in examination.findings), severity)
        for severity in ("error", "warning", "note")
    )
    return Page(f"Check of {examination.origin}", (*dict.fromkeys(examination.said), verdict), tuple(sections))


def summary_tables(examination: Examination) -> tuple[Table, ...]:
    """Splits, boxes and classes, as tables; a column for each split."""
    splits = examination.splits
    head = ("", *splits)
    tables = [_facts(head, [_picture_facts(each) for each in splits.values()])]
    boxes = [each.boxes for each in splits.values() if each.boxes is not None]
    if boxes:
        tables.append(_facts(head, [_box_facts(each) for each in boxes]))
    counted = {name: each.counts for name, each in splits.items() if each.counts is not None}
    if counted:
        heading = "boxes of class" if boxes else "pictures of class"
        tables.append(Table((heading, *counted), _class_rows(examination, counted)))
    return tuple(tables)


def _facts(head: tuple[str, ...], columns: Sequence[Mapping[str, str | int]]) -> Table:
    return Table(head, tuple((name, *(each[name] for each in columns)) for name in columns[0]))


def _picture_facts(split: SplitSummary) -> dict[str, str | int]:
    return {
        "pictures": split.pictures,
        "unreadable": split.unreadable,
        "left out on opening": split.left_out,
        "width": spread_text(split.width),
        "height": spread_text(split.height),
        "grey": split.grey,
        "files": ", ".join(f"{count:,} {kind}" for kind, count in split.kinds.items()) or "-",
    }


def _box_facts(boxes: BoxSummary) -> dict[str, str | int]:
    return {
        "boxes": boxes.boxes,
        "pictures without": boxes.without,
        "boxes a picture": spread_text(boxes.per_picture),
        "width of a box": spread_text(boxes.width),
        "height of a box": spread_text(boxes.height),
        "width / height": spread_text(boxes.aspect),
        "under 8 pixels": boxes.tiny,
        "difficult": boxes.difficult,
        "crowd": boxes.crowd,
    }


def spread_text(spread: Spread | None) -> str:
    """``193 to 600, median 400``."""
    if spread is None:
        return "-"
    least, median, most = (f"{each:,.0f}" if each >= 10 else f"{each:.3g}" for each in vars(spread).values())
    return median if least == most else f"{least} to {most}, median {median}"


def _class_rows(
    examination: Examination, counted: Mapping[str, Sequence[int]]
) -> tuple[tuple[str | int | float, ...], ...]:
    total = max(map(len, counted.values()))
    names = [*examination.class_names, *map(str, range(len(examination.class_names), total))]
    rows: list[tuple[str | int | float, ...]] = [
        (names[row], *(each[row] for each in counted.values())) for row in range(min(total, CLASSES))
    ]
    if total > CLASSES:
        rows.append((f"{total - CLASSES:,} more", *("" for _ in counted)))
    return tuple(rows)


def _overview(dataset: Dataset) -> tuple[Section, ...]:
    """A sheet of the training pictures, where any can be read."""
    try:
        sheet = draw_sheet(dataset)
    except UserError:
        return ()
    return (Section("Some of the training pictures", wide=Shown(inside(sheet), "training pictures with their labels")),)


@dataclass(frozen=True)
class _Show:
    """What is needed to show a picture; ``texts`` tell the label of a row of each split."""

    sources: Mapping[str, Source]
    class_names: tuple[str, ...]
    texts: Mapping[str, Callable[[int], str]]


def _section(found: Finding, show: _Show) -> Section:
    pictures = [suspect for suspect in found.suspects if suspect.spots]
    groups = [group for group in (_group(each, show) for each in pictures[:SUSPECTS]) if group]
    lines = [_line(suspect) for suspect in found.suspects if not suspect.spots or not groups][:LINES]
    shown = len(groups) if groups else len(lines)
    text = found.remedy
    if shown < len(found.suspects):
        text += f" Here are {shown:,} of {len(found.suspects):,}{found.more}."
    return Section(found.what, text, found.severity, tuple(lines), groups=tuple(groups))


def _line(suspect: Suspect) -> str:
    return ": ".join(filter(None, (" = ".join(suspect.where), suspect.why)))


def _group(suspect: Suspect, show: _Show) -> tuple[Shown, ...]:
    """The pictures of a suspect that can be read, the first with what is odd about it."""
    shown: list[Shown] = []
    for (split, row), where in list(zip(suspect.spots, suspect.where, strict=True))[:TOGETHER]:
        try:
            pixels, boxes = seen_picture(show.sources[split], row)
        except BadPicture:
            continue
        caption = f"{split}: {where} ({show.texts[split](row)})"
        why = f"{suspect.why}. " if suspect.why and not shown else ""
        shown.append(Shown(inside(thumbnail(pixels, SIDE, boxes, show.class_names)), why + caption))
    return tuple(shown)
