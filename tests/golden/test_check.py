"""The check refuses changes that make a log unreadable and accepts others."""

from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import UUID

import pytest
from pydantic import Field, create_model

from domain.content import TextBlock
from domain.events import (
    ConversationEvent,
    ConversationStarted,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCompleted,
    TurnFailed,
)
from domain.model_usage import Usage
from domain.values import Label
from eventlog import mapper
from tests.golden.check import fault_of
from tests.golden.record import golden_file, read, record
from tests.support.histories.builders import BEGINNING, some_id


def changed(base: type[Any], **fields: Any) -> type[Any]:
    """Return a model of the same name with added or changed fields."""
    return create_model(base.__name__, __base__=base, **fields)


WITHOUT_DETAIL = create_model(
    "TurnFailed",
    __base__=ConversationEvent,
    **{name: (info.annotation, info) for name, info in TurnFailed.model_fields.items() if name != "detail"},  # pyright: ignore
)
CHANGED = {
    "an added field": (changed(MessageDeleted, surplus=(str | None, None)), "surplus"),
    "a removed field": (WITHOUT_DETAIL, "detail"),
    "another type": (changed(TurnFailed, reason=(int, Field())), "reason"),
    "another bound": (changed(StreamDelta, first_seq=(int, Field(ge=0))), "first_seq"),
    "another length": (changed(ConversationStarted, title=(Label | None, None)), "title"),
    "another default": (changed(MessageAdded, model=(str | None, Field())), "required"),
    "another value": (
        changed(StreamDelta, block_type=(Literal["text", "reasoning", "tool_use"], Field())),
        "block_type",
    ),
    "another nested model": (
        changed(TurnCompleted, usage=(changed(Usage, audio_tokens=(int, 0)) | None, None)),
        "Usage",
    ),
    "another block": (
        changed(MessageAdded, content=(tuple[changed(TextBlock, tone=(str, "")), ...], Field())),
        "TextBlock",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_shape_without_a_new_version_is_refused_by_its_field(change: str) -> None:
    cls, field = CHANGED[change]
    fault = fault_of(cls)
    assert fault
    assert field in fault.split("(")[1].split(")")[0].split(", ")
    upcast = f"{cls.TOPIC}.upcast_v{cls.class_version}_v{cls.class_version + 1}"
    assert fault.endswith(
        f": set its class_version to {cls.class_version + 1}, write {upcast}, and run `python -m tests.golden.record`."
    )


def test_descriptions_may_change() -> None:
    descriptions: dict[str, Any] = {
        "__doc__": "Another sentence.",
        "message_id": (UUID, Field(description="In other words.")),
    }
    assert fault_of(changed(MessageDeleted, **descriptions)) is None


class FirstShape(ConversationEvent):
    """A user marked a message."""

    message_id: UUID


class SecondShape(FirstShape):
    """The same, with a reason."""

    class_version: ClassVar[int] = 2
    reason: str


class WithUpcast(SecondShape):
    """The same, with an upcast of the first shape."""

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["reason"] = "unknown"


FirstShape.TOPIC = SecondShape.TOPIC = WithUpcast.TOPIC = "MessageMarked"


def recorded(cls: type[FirstShape], folder: Path, **fields: Any) -> Path | None:
    """Record the shape of `cls` in `folder`, with an example."""
    envelope: dict[str, Any] = {"originator_id": some_id(), "originator_version": 1, "timestamp": BEGINNING}
    return record(cls, [cls(**envelope, actor="alice", message_id=some_id(), **fields)], folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the golden file of the first shape."""
    recorded(FirstShape, tmp_path)
    return tmp_path


def test_the_recorded_shape_passes(folder: Path) -> None:
    assert fault_of(FirstShape, folder) is None


def test_a_new_version_without_an_upcast_is_refused(folder: Path) -> None:
    recorded(SecondShape, folder, reason="rude")
    assert fault_of(SecondShape, folder) == (
        "MessageMarked version 1 cannot be read as version 2: write MessageMarked.upcast_v1_v2."
    )


def test_a_new_version_without_a_golden_file_is_refused(folder: Path) -> None:
    assert fault_of(WithUpcast, folder) == (
        "MessageMarked version 2 has no golden file: run `python -m tests.golden.record`,"
        " which adds MessageMarked-v2.json."
    )


def test_a_new_version_with_upcast_and_golden_file_passes_and_reads_the_old_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded(WithUpcast, folder, reason="rude") == folder / "MessageMarked-v2.json"
    assert fault_of(WithUpcast, folder) is None
    monkeypatch.setitem(mapper._STORABLE, "MessageMarked", WithUpcast)  # pyright: ignore[reportPrivateUsage]
    for version, reason in ((1, "unknown"), (2, "rude")):
        (state,) = read(golden_file("MessageMarked", version, folder))["stored"]
        event: Any = mapper.rebuild("MessageMarked", WithUpcast.AGGREGATE, some_id(), 1, state)
        assert (type(event), event.reason) == (WithUpcast, reason)


def test_a_removed_golden_file_is_reported(folder: Path) -> None:
    recorded(WithUpcast, folder, reason="rude")
    golden_file("MessageMarked", 1, folder).unlink()
    assert fault_of(WithUpcast, folder) == (
        "MessageMarked version 1 was stored, but its golden file is gone: take it back from git."
    )


def test_an_existing_golden_file_is_never_overwritten(folder: Path) -> None:
    before = golden_file("MessageMarked", 1, folder).read_bytes()
    assert recorded(FirstShape, folder) is None
    assert golden_file("MessageMarked", 1, folder).read_bytes() == before
