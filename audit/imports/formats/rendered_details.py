"""Reasoning and calls that Open WebUI renders as `<details>` in an answer."""

import html
import re
from collections.abc import Iterator

import orjson

from audit.imports.fields import JsonMap
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult, arguments, reasoning, texts

_OPENING = re.compile(r'<details\s+type="(reasoning|tool_calls)"')
_ATTRIBUTES = re.compile(r"""(?:\s+[\w-]+=(?:"[^"]*"|'[^']*'))*\s*>""")
_CLOSING = "</details>"
_ATTRIBUTE = re.compile(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)')""")
_SUMMARY = re.compile(r"\s*<summary>[^<]*</summary>\s*")
_QUOTE = re.compile(r"^[ \t]*> ?", re.MULTILINE)


def parts_of_rendered(text: str) -> Iterator[SourcePart]:
    """Yield the parts of an answer: its text, and what is rendered in it."""
    start = 0
    for opening in _OPENING.finditer(text):
        if opening.start() < start:
            continue  # shown inside another one
        attributes = _ATTRIBUTES.match(text, opening.end())
        end = text.find(_CLOSING, attributes.end()) if attributes else -1
        if attributes is None or end < 0:
            break
        yield from texts(_between(text, start, opening.start()))
        body = _body(text[attributes.end() : end])
        if opening[1] == "reasoning":
            yield from reasoning(_unquoted(body))
        else:
            yield from _call(_attributes(attributes[0]), body)
        start = end + len(_CLOSING)
    yield from texts(_between(text, start, len(text)))


def _between(text: str, start: int, end: int) -> str:
    """Return a part of a text without the line breaks beside what was taken out."""
    part = text[start:end]
    part = part.lstrip("\n") if start else part
    return part.rstrip("\n") if end < len(text) else part


def _body(inside: str) -> str:
    """Return what is inside without the line that is shown when it is folded."""
    summary = _SUMMARY.match(inside)
    return inside[summary.end() :] if summary else inside


def _unquoted(body: str) -> str:
    """Return the reasoning without the mark of a quotation before each line."""
    # Newer releases escape the whole body, older ones nothing.
    plain = html.unescape(body) if body.lstrip().startswith("&gt;") else body
    return _QUOTE.sub("", plain).strip("\n")


def _attributes(rendered: str) -> dict[str, str]:
    return {name: html.unescape(double or single) for name, double, single in _ATTRIBUTE.findall(rendered)}


def _call(attributes: dict[str, str], body: str) -> Iterator[SourcePart]:
    """Yield a call, and its result if there is one."""
    call_id = attributes.get("id") or None
    name = attributes.get("name") or None
    yield SourceCall(call_id, name, _arguments(attributes.get("arguments", "")))
    result = attributes.get("result") or html.unescape(body.strip())
    if result:
        yield SourceResult(call_id, name, _text_in(result))


def _arguments(rendered: str) -> JsonMap:
    """Return the arguments, which are JSON, or a JSON text that holds JSON."""
    return arguments(_text_in(rendered))


def _text_in(rendered: str) -> str:
    """Return the text that a JSON text stands for, and anything else as it is."""
    try:
        value = orjson.loads(rendered)
    except orjson.JSONDecodeError:
        return rendered
    return value if isinstance(value, str) else rendered
