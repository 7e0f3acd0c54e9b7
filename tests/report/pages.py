"""Reads HTML pages strictly: every element closed, nothing fetched, references that exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "link", "img"}


@dataclass(eq=False)
class Element:
    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    own_text: str = ""

    @property
    def text(self) -> str:
        text = self.own_text + "".join(child.text for child in self.children)
        return text.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, name: str = "", **attributes: str) -> list[Element]:
        """Every element below, in order, of that name and with those attributes if any."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}.items()
        elements = []
        for child in self.children:
            if name in ("", child.name) and wanted <= child.attributes.items():
                elements.append(child)
            elements += child.all(name, **attributes)
        return elements


class Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.open[-1].own_text += data


def parse_page(page: str) -> Element:
    """Parse a page; fail where it is malformed or would fetch anything."""
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root], f"<{parser.open[-1].name}> is not closed"
    elements = parser.root.all()
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert len(set(ids)) == len(ids), "an id is there twice"
    for element in elements:
        for key, value in element.attributes.items():
            assert not key.startswith("on"), f"{key} of <{element.name}>"
            if key in ("src", "href", "data", "srcset"):
                assert value.startswith("#"), f"{value} would be fetched"
                assert value[1:] in ids, f"{value} leads nowhere"
            if "url(" in value:
                assert value.removeprefix("url(#").removesuffix(")") in ids
    for style in parser.root.all("style"):
        assert "url(" not in style.text
        assert "@import" not in style.text
    return parser.root
