"""The error of an import, and how it gets its place."""

from collections.abc import Generator
from contextlib import contextmanager

from pydantic import ValidationError

MAX_SHOWN_CHARACTERS = 64
_PREFIX = "Value error, "


class ImportFormatError(Exception):
    """A file is in none of the formats that can be imported, or it is damaged.

    The text is one line that begins with the place, such as
    `conversations.json: conversation 3: mapping is not an object`.
    """


@contextmanager
def at(place: str) -> Generator[None]:
    """Put `place` before the text of an import error that is raised inside.

    Raises:
        ImportFormatError: the one raised inside, or a value inside breaks a rule of the domain.
    """
    try:
        yield
    except ImportFormatError as error:
        raise ImportFormatError(f"{place}: {error}") from error.__cause__
    except ValidationError as error:
        raise ImportFormatError(f"{place}: {_first_rule(error)}") from error


def _first_rule(error: ValidationError) -> str:
    """Return the field and the rule that it breaks, without its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field} {first['msg'].removeprefix(_PREFIX)}"


def shown(text: str) -> str:
    """Return the beginning of a text from a file, quoted and on one line."""
    # repr escapes line breaks, control characters and marks of direction.
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…")
