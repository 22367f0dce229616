"""Exports with many conversations, written piece by piece."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.support.exports.conversations import LANGUAGES, chatgpt, node

MEGABYTE = 1_000_000


def large_export(path: Path, megabytes: int) -> Path:
    """Write a ChatGPT export of this size, and return the path."""
    with path.open("w") as file:
        file.writelines(_pieces(megabytes))
    assert path.stat().st_size >= megabytes * MEGABYTE
    return path


def _pieces(megabytes: int) -> Iterator[str]:
    """Yield conversations with branches, tools and several languages."""
    text = " ".join(LANGUAGES.values()) * 10
    nodes = [node("root", None, "system")]
    for number in range(40):
        before = nodes[-1]["id"]
        metadata = {"model_slug": "gpt-4o", "citations": [{"start_ix": place, "url": "x" * 40} for place in range(5)]}
        nodes += [
            node(f"q{number}", before, "user", text, create_time=1.7e9 + number),
            node(f"r{number}", f"q{number}", "assistant", text),
            node(f"a{number}", f"q{number}", "assistant", text, create_time=1.7e9 + number + 0.5, metadata=metadata),
        ]
    conversation = json.dumps(chatgpt(*nodes, conversation_id="NUMBER"))
    yield "["
    for number in range(megabytes * MEGABYTE // len(conversation) + 1):
        yield f"{',' if number else ''}{conversation.replace('NUMBER', str(number))}"
    yield "]"


def short_conversations(path: Path, number: int) -> Path:
    """Write JSON Lines of conversations of two messages each, and return the path."""
    with path.open("w") as file:
        for each in range(number):
            said = [{"role": "user", "content": f"Question {each}"}, {"role": "assistant", "content": f"Answer {each}"}]
            file.write(json.dumps({"id": f"c{each}", "messages": said}) + "\n")
    return path
