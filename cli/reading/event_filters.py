"""The options that select recorded events, the same for all commands."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from cli.database_options import WrongUseError
from cli.reading.moments import EXAMPLE, moment_of
from domain.events import EVENT_TYPES
from domain.values import checked_text
from eventlog.log_search import EventFilter

R = TypeVar("R")

_OPTIONS = (
    click.option("--type", "event_type", metavar="TYPE", help="Only events of this type, such as TurnFailed."),
    click.option("--actor", metavar="ACTOR", help="Only events that this actor caused, such as user:alice."),
    click.option("--owner", metavar="ID", help="Only events of this owner's conversations and agents."),
    click.option("--after", metavar="WHEN", help=f"Only events after a moment: {EXAMPLE}."),
    click.option("--before", metavar="WHEN", help="Only events before a moment."),
    click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", help="Oldest or newest event first."),
)


class ChosenEvents(NamedTuple):
    """The events that the options select, and their order."""

    wanted: EventFilter
    newest_first: bool


def filter_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options to a command, which gets them as its argument `chosen`."""

    @wraps(command)
    def filtered(
        event_type: str | None,
        actor: str | None,
        owner: str | None,
        after: str | None,
        before: str | None,
        order: str,
        **others: Any,
    ) -> R:
        wanted = EventFilter(
            known_type(event_type),
            valid_text("--actor", actor),
            valid_text("--owner", owner),
            None if after is None else moment_of("--after", after),
            None if before is None else moment_of("--before", before),
        )
        return command(chosen=ChosenEvents(wanted, order == "desc"), **others)

    decorated: Callable[..., R] = filtered
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def known_type(name: str | None) -> str | None:
    """Return the type of event that `--type` names.

    Raises:
        WrongUseError: there is no such type.
    """
    if name is not None and name not in EVENT_TYPES:
        raise WrongUseError(f"--type {name}: is not a type of event. There are {', '.join(EVENT_TYPES)}.")
    return name


def valid_text(option: str, text: str | None) -> str | None:
    """Return the text of an option.

    Raises:
        WrongUseError: the log cannot hold it.
    """
    try:
        return None if text is None else checked_text(text)
    except ValueError as error:
        raise WrongUseError(f"{option}: {error}.") from None
