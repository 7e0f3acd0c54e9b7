"""BibTeX entries of the papers behind the rules of a study, from the citations of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain

from optrial.markup import latex_text
from optrial.records import Record
from optrial.rules import RULES, modifier_named
from optrial.spec import RunSpec

__all__ = ["OWN_KEY", "Reference", "bibliography", "keys_of", "references_of"]

OWN_KEY = "optrial"
AUTHORS = "The optrial developers"

_ENTRY = re.compile(r"(?P<authors>.+?) \((?P<year>\d{4})\)\. (?P<title>.+?)(?:\. (?P<venue>.+))?")
_INTRODUCTION = re.compile(r"; (?:in the form of |[a-z ]+: )?(?=[A-Z])")
"""Text between the papers of a rule: ``; in the form of``, ``; centred: ``."""
_AUTHORS = re.compile(r"(?<=\.), | and ")
_ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")
_PLACE = re.compile(r",? (?:Algorithms?|equations?) [\d. and to]+$|, ?$")
"""Algorithm or equation of a paper, which is no part of its entry."""
_JOURNAL = re.compile(
    r"(?P<journal>.+?) (?P<volume>\d+)(?:\((?P<number>\d+)\))?, (?P<pages>\d+-\d+)"
)
_CONFERENCE = re.compile(r"[A-Z][A-Za-z]+(?: Workshop)?")
_PUBLISHERS = ("MIT Press",)
_SMALL = {"a", "an", "the", "on", "of", "for", "some"}


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes:
        key: its key.
        kind: kind of the BibTeX entry.
        fields: fields of the entry, in plain text.
        text: the citation as a sentence.
    """

    key: str
    kind: str
    fields: tuple[tuple[str, str], ...]
    text: str

    def bibtex(self) -> str:
        """Return the entry; names and titles keep their capitals."""
        lines = [f"  {name} = {{{_field(name, value)}}}," for name, value in self.fields]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"]) + "\n"


def _field(name: str, value: str) -> str:
    if name == "pages":
        return value.replace("-", "--")
    text = latex_text(value)
    whole = name == "title" or (name == "author" and "," not in value)  # an organisation
    return f"{{{text}}}" if whole else text


def keys_of(spec: RunSpec) -> tuple[str, ...]:
    """Return the keys of the papers of the rules and modifiers of a run; none for user code."""
    return tuple(reference.key for reference in _papers(spec))


def bibliography(records: Iterable[Record]) -> list[Reference]:
    """Return the papers of the rules of a study, by key, and optrial in the version that ran it."""
    versions: dict[str, None] = {}
    papers: dict[str, Reference] = {}
    for record in records:
        papers |= {reference.key: reference for reference in _papers(record.spec)}
        versions |= dict.fromkeys(filter(None, [(record.facts.versions or {}).get("optrial")]))
    title = "optrial: controlled, randomised, paired trials of neural-network optimizers"
    note = f"Version {', '.join(versions)}" if versions else ""
    fields = {"author": AUTHORS, "title": title, "note": note}
    known = tuple((name, value) for name, value in fields.items() if value)
    own = Reference(OWN_KEY, "misc", known, f"{'. '.join(value for _, value in known)}.")
    return [*(papers[key] for key in sorted(papers)), own]


def _papers(spec: RunSpec) -> tuple[Reference, ...]:
    rules = [(spec.optimizer_kind, spec.rule)]
    rules += [(group.optimizer_kind or "rule", group.rule) for group in spec.groups if group.rule]
    papers = [RULES[rule].paper for kind, rule in rules if kind == "rule" and rule in RULES]
    for modify in (spec.modify, *(group.modify or () for group in spec.groups)):
        papers += [modifier_named(name).paper for name in modify]
    return tuple(dict.fromkeys(chain.from_iterable(map(references_of, papers))))


@cache
def references_of(paper: str) -> tuple[Reference, ...]:
    """Return the publications that a citation of the catalogue names, at least one."""
    return tuple(_reference(text) for text in _INTRODUCTION.split(paper))


def _reference(text: str) -> Reference:
    match = _ENTRY.fullmatch(text.rstrip("."))
    if match is None:
        key = re.sub(r"[^0-9A-Za-z]+", "", text)[:24].lower() or "paper"
        return Reference(key, "misc", (("title", text),), text)
    authors = _AUTHORS.split(match["authors"].replace(" et al.", " and others"))
    first = re.sub(r"[^a-z]", "", authors[0].partition(",")[0].lower())
    words = re.findall(r"[a-z0-9]+", match["title"].lower())
    word = next((word for word in words if word not in _SMALL), "")
    kind, venue = _venue(match["venue"] or "")
    fields = {"author": " and ".join(authors), "title": match["title"], "year": match["year"]}
    return Reference(
        f"{first}{match['year']}{word}",
        kind,
        tuple({**fields, **venue}.items()),
        f"{_PLACE.sub('', text.rstrip('.'))}.",
    )


def _venue(text: str) -> tuple[str, dict[str, str]]:
    """Return the kind of an entry and its fields about the place of publication."""
    arxiv = _ARXIV.search(text)
    fields = {"eprint": arxiv[1], "archiveprefix": "arXiv"} if arxiv else {}
    place = _PLACE.sub("", _ARXIV.sub("", text).strip()).strip(" .")
    if journal := _JOURNAL.fullmatch(place):
        return "article", {k: v for k, v in journal.groupdict().items() if v} | fields
    if place in _PUBLISHERS:
        return "book", {"publisher": place} | fields
    if _CONFERENCE.fullmatch(place):
        return "inproceedings", {"booktitle": place} | fields
    return "misc", ({"howpublished": place} if place else {}) | fields
