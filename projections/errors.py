"""What building and comparing read models refuses.

ProjectionError
├── UnknownProjectionError       no projection has this name
├── RebuildRunningError          somebody else rebuilds or verifies the projection right now
├── NothingKeptError             there is no earlier build to go back to
├── NothingToVerifyError         nothing of the projection is read, so there is nothing to compare
├── ProjectionFailedError        the projection cannot take an event; carries the event's position
├── BuildFailedError             PostgreSQL refuses something of a build, such as its tables or the space for them
├── BuildInterruptedError        a worker or the database has gone; the next rebuild goes on from here
├── ViewInUseError               a view of somebody's own stands in the way of a switch
├── SchemaExistsError            the schema that a read model of the past is to have is there already
├── NothingRecordedError         the log has no event up to then
└── NotYetRecordedError          the position or time is beyond the end of the log
"""


class ProjectionError(Exception):
    """The root of these errors; each says in one line what to do about it."""


class UnknownProjectionError(ProjectionError):
    """No projection has this name."""

    def __init__(self, name: str, names: list[str]) -> None:
        super().__init__(f"There is no projection {name}; there are {', '.join(names)}.")


class RebuildRunningError(ProjectionError):
    """Somebody else rebuilds or verifies the projection right now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A rebuild or verification of {name} is running already.")


class NothingKeptError(ProjectionError):
    """There is no earlier build to go back to."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no earlier build of {name} to go back to.")


class NothingToVerifyError(ProjectionError):
    """Nothing of the projection is read, so there is nothing to compare."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is nothing to verify of {name}: nothing of it is read yet.")


class ProjectionFailedError(ProjectionError):
    """A projection, or several (`names`), cannot take the event at `position`."""

    def __init__(self, name: str, position: int, reason: str) -> None:
        super().__init__(name, position, reason)
        self.names = name.split(", ")
        self.position = position

    def __str__(self) -> str:
        name, position, reason = self.args
        return f"Projection {name} cannot take the event at position {position}: {reason}."


class BuildFailedError(ProjectionError):
    """PostgreSQL refuses something of a build, or several (`names`), such as its tables or the space for them."""

    position = None

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.names = name.split(", ")

    def __str__(self) -> str:
        name, reason = self.args
        return f"PostgreSQL refuses the build of {name}: {reason}."


class BuildInterruptedError(ProjectionError):
    """A worker or the database has gone, or somebody else took over; the next rebuild goes on from here."""


class ViewInUseError(ProjectionError):
    """A view of somebody's own stands in the way of a switch."""

    def __init__(self, view: str) -> None:
        super().__init__(f"The view {view} changes its columns, but another view depends on it; drop that one first.")


class SchemaExistsError(ProjectionError):
    """The schema that a read model of the past is to have is there already."""

    def __init__(self, schema: str) -> None:
        super().__init__(f"There is a schema {schema} already; choose another name or drop it.")


class NothingRecordedError(ProjectionError):
    """The log has no event up to then."""

    def __init__(self, when: str) -> None:
        super().__init__(f"Nothing was recorded up to {when}.")


class NotYetRecordedError(ProjectionError):
    """The position is beyond the log's head, or the time is in the future."""

    def __init__(self, when: str, head: int) -> None:
        super().__init__(f"{when} is beyond the end of the log, which is at position {head} now.")
