"""The longest end of a conversation that fits a budget."""

from collections.abc import Sequence

import pytest

from domain.content import Role, TextBlock
from domain.events import MessageAdded
from projections.models import trimming
from projections.models.trimming import ContextWindow, longest_suffix, trimmed
from tests.support.histories.free_histories import message

ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}


def said(roles: str) -> list[MessageAdded]:
    """Return messages of these roles, `s`, `u` and `a`, which are numbered from 0."""
    return [message(ROLES[role], TextBlock(text=str(number))) for number, role in enumerate(roles)]


def ten_each(messages: Sequence[MessageAdded]) -> int:
    return 10 * len(messages)


def kept(roles: str, max_tokens: int) -> tuple[str, int]:
    """Return the numbers of the messages that are kept, and how many are dropped."""
    found = longest_suffix(said(roles), max_tokens, ten_each)
    assert found.tokens == 10 * len(found.messages)
    return "".join(_number(each) for each in found.messages), found.dropped


def _number(each: MessageAdded) -> str:
    (block,) = each.content
    assert isinstance(block, TextBlock)
    return block.text


@pytest.mark.parametrize(
    ("roles", "max_tokens", "expected"),
    [
        ("uaua", 40, ("0123", 0)),
        ("uaua", 39, ("23", 2)),
        ("uaua", 20, ("23", 2)),
        ("uauau", 10, ("4", 4)),
        ("uauau", 49, ("234", 2)),
        ("auau", 40, ("123", 1)),  # an end begins with a user message
        ("uaaa", 5, ("0123", 0)),  # the newest user message is kept, whatever it takes
        ("usau", 30, ("13", 2)),  # system messages are always kept
        ("suas", 10, ("0312", 0)),  # and come first
        ("aaa", 20, ("12", 1)),  # without a user message an end begins anywhere
        ("aaa", 5, ("", 3)),
        ("saa", 5, ("0", 2)),
        ("", 5, ("", 0)),
    ],
)
def test_the_longest_suffix_that_fits_is_kept(roles: str, max_tokens: int, expected: tuple[str, int]) -> None:
    assert kept(roles, max_tokens) == expected


def test_every_budget_keeps_as_much_as_it_holds() -> None:
    for questions in range(1, 30):
        for budget in range(1, 32):
            _, dropped = kept("u" * questions, 10 * budget)
            assert dropped == max(0, questions - budget)


def test_few_ends_are_counted() -> None:
    counted: list[int] = []

    def count(messages: Sequence[MessageAdded]) -> int:
        counted.append(len(messages))
        return ten_each(messages)

    assert longest_suffix(said("u" * 1000), 3000, count).dropped == 700
    assert len(counted) <= 2 + 10 + 1
    assert len(counted) == len(set(counted))


@pytest.mark.parametrize("large", [0, 10**9])
async def test_large_windows_are_trimmed_alike(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "THREAD_FROM_TOKENS", large)
    messages = said("uaua")
    assert await trimmed(messages, 20, ten_each) == ContextWindow(messages[2:], 20, 2)
