"""YAML as plain values of bounded size: texts, numbers, switches, lists and mappings.

YAML 1.2, so that ``on`` is a word, ``1e-4`` a number and ``2024-01-01`` a text. Nothing in a text
is executed. Its nodes are checked before any value is made of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scanner import Scanner

from optrial.errors import Problem, StudyError, printable, shown

__all__ = ["LONGEST_TEXT", "parse_yaml"]

LONGEST_TEXT = 200_000
"""Most characters of a text; reading them takes seconds."""

_MOST_VALUES = 200_000
_DEEPEST = 50
_MOST_DIGITS = 300  # more do not fit into a floating-point number

_NOT_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "seq": "a list",
    "map": "a mapping",
    "merge": "<<",
}


def parse_yaml(text: str, source: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        StudyError: the text is not YAML, is too large or nests too deep, or holds values of other
            types; the error names `source`.
    """
    if len(text) > LONGEST_TEXT:
        problem = Problem("", f"is longer than {LONGEST_TEXT:,} characters; {_SHORTER}.")
        raise StudyError([problem], source)
    try:
        return _values(text)
    except _RefusedError as error:
        problem = Problem(_place(error.mark), str(error))
    except MarkedYAMLError as error:
        reason = (error.problem or "").partition("\n")[0]
        problem = Problem(_place(error.problem_mark), f"not valid YAML: {reason}.")
    except RecursionError:
        problem = Problem("", _TOO_DEEP)
    except (YAMLError, ValueError, LookupError, AssertionError) as error:
        problem = Problem("", f"not valid YAML: {' '.join(str(error).split())}.")
    raise StudyError([problem], source)


_SHORTER = "use counts, such as seeds: 100, and ranges instead of long lists"
_TOO_DEEP = f"values are nested deeper than {_DEEPEST} levels."


class _RefusedError(Exception):
    """Valid YAML that no study may hold, and where it begins."""

    def __init__(self, mark: Any, reason: str) -> None:
        super().__init__(reason)
        self.mark = mark


class _Scanner(Scanner):
    """Scanner of YAML 1.2 that stops at deep brackets; its time is quadratic in their depth."""

    def scan_yaml_directive_value(self, start_mark: Any) -> Any:
        version = super().scan_yaml_directive_value(start_mark)
        if version != (1, 2):
            line = "%YAML " + ".".join(map(str, version))
            reason = f"{shown(line)}: only YAML 1.2 is read; remove this line."
            raise _RefusedError(start_mark, reason)
        return version

    def fetch_flow_collection_start(self, *token: Any, **options: Any) -> None:
        if len(self.flow_context) >= _DEEPEST:
            raise _RefusedError(self.reader.get_mark(), _TOO_DEEP)
        super().fetch_flow_collection_start(*token, **options)


def _values(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # YAML lets a text use the name of an anchor again
        node = yaml.compose(text)
    if node is None:
        return None
    for inner in _nodes(node):
        _check(inner, yaml.resolver)
    return yaml.constructor.construct_document(node)


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node once.

    Raises:
        _RefusedError: with its aliases written out, the tree is too large or too deep; it is
            infinitely deep if a node contains itself.
    """
    sizes: dict[int, int] = {}

    def visit(node: Node, depth: int) -> Iterator[Node]:
        if depth > _DEEPEST:
            raise _RefusedError(node.start_mark, _TOO_DEEP)
        yield node
        size = 1
        for child in _children(node):
            if id(child) not in sizes:
                yield from visit(child, depth + 1)
            size += sizes[id(child)]
        if size > _MOST_VALUES:
            raise _RefusedError(
                node.start_mark, f"holds more than {_MOST_VALUES:,} values; {_SHORTER}."
            )
        sizes[id(node)] = size

    yield from visit(root, 1)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else []


def _check(node: Node, resolver: Any) -> None:
    """Check one node; dates and ``=``, which older versions of YAML read otherwise, become texts.

    Raises:
        _RefusedError: the node is of no plain type, or its text is not of its type.
    """
    if node.tag in (f"{_TAG}timestamp", f"{_TAG}value"):
        node.tag = f"{_TAG}str"
    tag = node.tag or ""
    kind = tag.removeprefix(_TAG)
    if kind not in _KINDS:
        tag = printable(tag.replace(_TAG, "!!"))
        raise _RefusedError(
            node.start_mark, f"{shown(tag)} is not a type of values; put texts in quotes."
        )
    if isinstance(node, MappingNode):
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _RefusedError(key.start_mark, "a key must be a text.")
    elif isinstance(node, ScalarNode):
        _check_scalar(node, kind, resolver)


def _check_scalar(node: ScalarNode, kind: str, resolver: Any) -> None:
    text = node.value
    if match := _NOT_TEXT.search(text):
        raise _RefusedError(
            node.start_mark, f"holds the character U+{ord(match[0]):04X}, which is not text."
        )
    if kind == "str":
        return
    implicit = str(resolver.resolve(ScalarNode, text, (True, False))).removeprefix(_TAG)
    if implicit != kind and (implicit, kind) != ("int", "float"):
        raise _RefusedError(node.start_mark, f"{shown(text)} is not {_KINDS[kind]}.")
    if kind == "int" and len(text) > _MOST_DIGITS:
        digits = f"a whole number of {len(text):,} digits; at most {_MOST_DIGITS} are allowed."
        raise _RefusedError(node.start_mark, digits)


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
