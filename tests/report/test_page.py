"""The page of a report: whole in one file, nothing asked for, nothing run, everything escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from PIL import Image

from foveal.report.page import Page, Section, Shown, Table, inside, render


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())


NASTY = "<script>alert(1)</script>&\"'"


def page() -> Page:
    picture = Shown(inside(Image.new("RGB", (4, 3), (200, 0, 0))), NASTY)
    return Page(
        NASTY,
        ("one", NASTY),
        (
            Section(NASTY, NASTY, "warning", (NASTY,), (Table(("class", NASTY), ((NASTY, 1204), ("b", 0.5))),)),
            Section("pictures", wide=picture, groups=((picture, picture), (picture,))),
        ),
    )


def test_texts_are_escaped_and_numbers_grouped():
    tags = Tags(render(page()))
    assert "script" not in {tag for tag, _ in tags.found}
    assert tags.words.count(NASTY) == 11  # title twice, fact, heading, text, line, two cells, three captions
    assert "1,204" in tags.words and "0.5" in tags.words


def test_the_page_asks_for_nothing_outside_itself():
    html = render(page())
    addresses = [
        value for _, attributes in Tags(html).found for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(addresses) == 4 and all(each.startswith("data:image/jpeg;base64,") for each in addresses)
    assert not re.search(r"https?:|@import|url\(", html)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html


def test_pictures_of_a_group_stand_together():
    figures = [
        [name for name, _ in Tags(part).found if name == "img"]
        for part in render(page()).split('<div class="group">')[1:]
    ]
    assert list(map(len, figures)) == [2, 1]


def test_an_empty_page_is_a_page():
    html = render(Page("Nothing"))
    assert html.startswith("<!doctype html>") and "<h1>Nothing</h1>" in html and "<section>" not in html
