"""The manifest of an export, and the state of one that is not finished."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, StringConstraints, ValidationError

from audit.exports.errors import ExportDamagedError, ExportError

MANIFEST = "manifest.json"
STATE = "export-state.json"
MARK = b'"turnlog_export"'
"""The key that only the manifest of an export has."""

ExportFormat = Literal["jsonl", "parquet"]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# No name leads out of the directory.
_FileName = Annotated[str, StringConstraints(pattern=r"^(events|images)-[0-9]{12,19}\.(jsonl|parquet)$")]
_LogName = Annotated[str, StringConstraints(pattern=r"^turnlog/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)


class ExportFilter(_Frozen):
    """Selects the exported events. None selects all.

    `first` and `last` are positions or times of recording, both inclusive. `owner_id` selects the events of an owner's
    conversations and agents. `conversation_id` may be the id of any aggregate.
    """

    first: int | datetime | None = Field(default=None, validation_alias="from", serialization_alias="from")
    last: int | datetime | None = Field(default=None, validation_alias="to", serialization_alias="to")
    owner_id: str | None = Field(default=None, validation_alias="owner", serialization_alias="owner")
    conversation_id: str | None = Field(
        default=None, validation_alias="conversation", serialization_alias="conversation"
    )
    type: str | None = None

    @property
    def is_of_all_events(self) -> bool:
        """Whether it selects each event between two positions."""
        return self.owner_id is None and self.conversation_id is None and self.type is None

    @property
    def is_of_whole_log(self) -> bool:
        """Whether it selects everything."""
        return self == ExportFilter()


class ExportedTreeHead(_Frozen):
    """The head of the log's Merkle tree when the export began.

    The root is in hexadecimal digits.
    """

    size: NonNegativeInt
    root: _Sha256


class ExportedFile(_Frozen):
    """A file of an export, and the positions of the events that it is about."""

    name: _FileName
    count: NonNegativeInt
    bytes: NonNegativeInt
    sha256: _Sha256
    first_position: PositiveInt
    last_position: PositiveInt


class ExportPlan(_Frozen):
    """An export as it was fixed when it began.

    It has the events after one position, up to another.
    """

    turnlog_export: Literal[1] = 1
    log: _LogName
    format: ExportFormat
    filters: ExportFilter
    after: NonNegativeInt
    upto: NonNegativeInt
    tree_head: ExportedTreeHead
    checkpoint: str | None

    def is_same_export(self, other: "ExportPlan") -> bool:
        """Return whether the other one exports the same log with the same arguments."""
        return (self.log, self.format, self.filters) == (other.log, other.format, other.filters)


class ExportState(_Frozen):
    """An export that is not finished, with its complete files."""

    plan: ExportPlan
    events: tuple[ExportedFile, ...] = ()
    images: tuple[ExportedFile, ...] = ()
    missing_images: NonNegativeInt = 0

    def manifest(self) -> "ExportManifest":
        """Return the manifest, once all files are complete."""
        return ExportManifest(
            log=self.plan.log,
            format=self.plan.format,
            filters=self.plan.filters,
            count=sum(file.count for file in self.events),
            first_position=self.events[0].first_position if self.events else None,
            last_position=self.events[-1].last_position if self.events else None,
            tree_head=self.plan.tree_head,
            checkpoint=self.plan.checkpoint,
            missing_images=self.missing_images,
            events=self.events,
            images=self.images,
        )


class ExportManifest(_Frozen):
    """A finished export.

    `checkpoint` is a signed note of the tree head, if a key was there. `missing_images` counts the images that exported
    events refer to and the log does not have.
    """

    turnlog_export: Literal[1] = 1
    log: _LogName
    format: ExportFormat
    filters: ExportFilter
    count: NonNegativeInt
    first_position: PositiveInt | None
    last_position: PositiveInt | None
    tree_head: ExportedTreeHead
    checkpoint: str | None
    missing_images: NonNegativeInt
    events: tuple[ExportedFile, ...]
    images: tuple[ExportedFile, ...]

    @property
    def bytes(self) -> int:
        """The size of all files but the manifest."""
        return sum(file.bytes for file in (*self.events, *self.images))


def read_manifest(directory: Path) -> ExportManifest:
    """Return the manifest of an export.

    Raises:
        ExportDamagedError: it is damaged.
        ExportError: it is missing or cannot be read.
    """
    try:
        text = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        unfinished = (directory / STATE).exists()
        reason = "is not finished. Run the same export again" if unfinished else f"has no {MANIFEST}"
        raise ExportError(f"The export {directory} {reason}.") from None
    except OSError as error:
        raise ExportError(f"{directory / MANIFEST} cannot be read: {error.strerror or error}.") from None
    try:
        return ExportManifest.model_validate_json(text)
    except ValidationError as error:
        raise ExportDamagedError(f"{directory / MANIFEST}: {first_fault(error)}.") from None


def first_fault(error: ValidationError) -> str:
    """Return the place of the first fault and the rule that it breaks."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
