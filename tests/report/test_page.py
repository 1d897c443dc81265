"""The page is whole by itself, shows every dim twice, and is safe whatever they are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from report.conftest import Cost, Inspected
from secateurs.report.page import page
from secateurs.types import Dim

VOID = {"meta", "input", "br"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}, "the page needs nothing else"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def _drawing(text: str) -> ElementTree.Element:
    found = re.search(r"<svg.*?</svg>", text, re.DOTALL)
    assert found
    return ElementTree.fromstring(found.group())


def test_the_page_is_whole_and_needs_nothing_else(inspected: Inspected) -> None:
    text = page("my net", "1.00 k parameters", inspected.costs, inspected.modules)
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "http" not in text and "@import" not in text and "<!--" not in text
    assert "2 dims can shrink, 4 are frozen" in text
    assert "prefers-color-scheme: dark" in text


def test_a_dot_wherever_a_module_carries_a_dim(inspected: Inspected) -> None:
    drawing = _drawing(page("net", "", inspected.costs, inspected.modules))
    assert len(drawing.findall(".//circle")) == 8
    rails = drawing.findall(".//g")
    assert [len(rail.findall("circle")) for rail in rails] == [1, 4, 2, 1]
    assert [(rail.findtext("title") or "").split(";")[0] for rail in rails][2] == "net.{0-1}.ffn: 5 neurons"
    assert "frozen" in rails[1].get("class", "") and "frozen" not in rails[2].get("class", "")
    assert [text.text for text in drawing.findall(".//text[@class='module']")][1] == "net.{0-1}.up"


def test_the_table_has_a_row_for_every_dim_with_its_reason(inspected: Inspected) -> None:
    text = page("net", "", inspected.costs, inspected.modules)
    rows = re.findall(r"<tr class.*?</tr>", text, re.DOTALL)
    assert len(rows) == 4
    assert "net.{0-1}.ffn (2 dims)" in rows[2] and "net.0.down.weight[1]" in rows[2] and "can shrink" in rows[2]
    assert 'data-value="1000">1.00 k<' in rows[2]
    assert "whoever calls the network" in rows[3]


def test_names_are_escaped(inspected: Inspected) -> None:
    odd = Cost(Dim("<b>&", 4, "neurons", ("<b>&.weight[0]",)))
    text = page("<script>alert(1)</script>", "", [*inspected.costs, odd], inspected.modules)
    assert "<b>" not in text and "<script>alert" not in text
    assert _drawing(text) is not None
