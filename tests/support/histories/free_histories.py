"""Histories without rules, as clients may record them.

Any role follows any other, tool calls and results do not match, and texts are blank.
"""

from collections.abc import Sequence
from itertools import product

from hypothesis import strategies as st

from domain.content import (
    Content,
    ContentBlock,
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.events import MessageAdded
from domain.tools import UNANSWERED
from tests.support.histories.builders import BEGINNING, some_id

# Few ids, so that they occur repeatedly. Ids that differ only in `.` and `:` are equal after the repair for Anthropic.
CALL_IDS = ["a", "b", "a_1", "c.1", "c:1", "", "ü", "x" * 41, "x" * 300, "a__thought__+/=", "__thought__"]
NAMES = ["search", "", "my tool.v2", "n" * 65]
BLANKS = ["", " ", "\n\t", "\u2003"]
PICTURE = ImageBlock(media_type="image/png", data="iVBORw0KGgo=")


TEXTS = [TextBlock(text=words) for words in (*BLANKS, "Hello", " two words ")]
SIGNED = {"google": {"thought_signature": "c2ln"}}
CALLS = [
    ToolUseBlock(id=call_id, name=NAMES[n % len(NAMES)], input={"n": n}, extra_content=SIGNED if n % 3 == 0 else None)
    for n, call_id in enumerate(CALL_IDS)
]
RESULTS = [
    ToolResultBlock(tool_use_id=call_id, content=content, is_error=n % 2 == 0)
    for call_id in CALL_IDS
    for n, content in enumerate((*BLANKS, "42", "Error: broken", UNANSWERED))
]
BLOCKS: dict[Role, Sequence[ContentBlock]] = {
    "system": TEXTS,
    "user": [*TEXTS, PICTURE, ContextBlock(data={})],
    "assistant": [*TEXTS, ReasoningBlock(text="Hm"), *CALLS],
    "tool": RESULTS,
}
CONTENTS: dict[Role, list[Content]] = {
    role: [content for most in range(3) for content in product(blocks, repeat=most)] for role, blocks in BLOCKS.items()
}
ROLES: list[Role] = ["system", "user", "user", "assistant", "assistant", "assistant", "tool", "tool", "tool"]
"""More than half of a history consists of calls and results."""


def message(role: Role, *content: ContentBlock) -> MessageAdded:
    """Return a message of the log, even one that no decision records."""
    return MessageAdded(
        originator_id=some_id(),
        originator_version=2,
        timestamp=BEGINNING,
        actor="alice",
        message_id=some_id(),
        role=role,
        content=content,
        tokens=1,
        encoding="words",
    )


def free_histories(most: int = 12) -> st.SearchStrategy[list[MessageAdded]]:
    """Return a strategy for the messages of a context window."""
    # Drawing numbers takes a tenth of the time of drawing blocks.
    drawn = st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 10_000)), max_size=most)
    return drawn.map(lambda messages: [_said(role, number) for role, number in messages])


def _said(role: Role, number: int) -> MessageAdded:
    return message(role, *CONTENTS[role][number % len(CONTENTS[role])])
