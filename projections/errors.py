"""The errors of building, switching and comparing read models.

ProjectionError
├── UnknownProjectionError       no projection has this name
├── RebuildRunningError          another process rebuilds or verifies the projection
├── NothingKeptError             there is no earlier build for a rollback
├── NothingToVerifyError         the projection has no live build to compare with
├── ProjectionFailedError        the projection raises at an event; carries the event's position
├── BuildFailedError             PostgreSQL refuses a statement of a build, or lacks the space for it
├── BuildInterruptedError        a worker or the database has gone; the next rebuild resumes the build
├── ViewInUseError               another view depends on one that has to change
├── SchemaExistsError            the schema for a read model of the past exists already
├── NothingRecordedError         the log has no event up to the given time or position
└── NotYetRecordedError          the position or time is beyond the end of the log
"""


class ProjectionError(Exception):
    """The root of these errors. Each message says in one line what to do about it."""


class UnknownProjectionError(ProjectionError):
    """No projection has this name."""

    def __init__(self, name: str, names: list[str]) -> None:
        super().__init__(f"There is no projection {name}; there are {', '.join(names)}.")


class RebuildRunningError(ProjectionError):
    """Another process rebuilds or verifies the projection."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A rebuild or verification of {name} is running already.")


class NothingKeptError(ProjectionError):
    """There is no earlier build for a rollback."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no earlier build of {name} to go back to.")


class NothingToVerifyError(ProjectionError):
    """The projection has no live build to compare with."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is nothing to verify of {name}: nothing of it is read yet.")


class ProjectionFailedError(ProjectionError):
    """A projection, or one of several (`names`), raises at the event at `position`."""

    def __init__(self, name: str, position: int, reason: str) -> None:
        super().__init__(name, position, reason)
        self.names = name.split(", ")
        self.position = position

    def __str__(self) -> str:
        name, position, reason = self.args
        return f"Projection {name} cannot take the event at position {position}: {reason}."


class BuildFailedError(ProjectionError):
    """PostgreSQL refuses a statement of a build, or lacks the space for it.

    Where several builds were written together, `names` has all of them.
    """

    position = None

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.names = name.split(", ")

    def __str__(self) -> str:
        name, reason = self.args
        return f"PostgreSQL refuses the build of {name}: {reason}."


class BuildInterruptedError(ProjectionError):
    """A worker or the database has gone, or another process has taken over.

    The next rebuild resumes the build.
    """


class ViewInUseError(ProjectionError):
    """Another view depends on a view that a switch has to change."""

    def __init__(self, view: str) -> None:
        super().__init__(f"The view {view} changes its columns, but another view depends on it; drop that one first.")


class SchemaExistsError(ProjectionError):
    """The schema for a read model of the past exists already."""

    def __init__(self, schema: str) -> None:
        super().__init__(f"There is a schema {schema} already; choose another name or drop it.")


class NothingRecordedError(ProjectionError):
    """The log has no event up to the given time or position."""

    def __init__(self, when: str) -> None:
        super().__init__(f"Nothing was recorded up to {when}.")


class NotYetRecordedError(ProjectionError):
    """The position is beyond the log's head, or the time is in the future."""

    def __init__(self, when: str, head: int) -> None:
        super().__init__(f"{when} is beyond the end of the log, which is at position {head} now.")
