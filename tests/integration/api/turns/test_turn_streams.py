"""Turns as server-sent events: frames, their order, and clients that disconnect."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api.http import sse
from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api, Frame
from tests.support.http.resources import check_message, check_position, check_turn
from tests.support.models.model_scripts import BAD_KEY, BreakOff, Hang, Pause, Reasoning, Script
from tests.support.models.model_server import ModelServer
from tests.support.waiting import eventually

IDENTITY = {"conversation_id", "turn_id", "seq"}
KEYS = {
    "turn.started": IDENTITY | {"user_message", "message_id", "model"},
    "delta": IDENTITY | {"block_index", "delta_index", "block_type", "text"},
    "block.done": IDENTITY | {"block_index", "block"},
    "turn.completed": IDENTITY | {"turn", "message"},
    "turn.failed": IDENTITY | {"turn", "message", "error"},
    "turn.cancelled": IDENTITY | {"turn", "message", "error"},
}


def frames_from(api: Api, id_: str | None, model: str, **body: Any) -> list[Frame]:
    """Read a turn to its end and check the rules that hold for every turn."""
    with api.stream(id_, model, **body) as turn:
        assert turn.response.status_code == 200
        check_position(turn.response)
        frames = list(turn.frames)
    assert [frame.id for frame in frames] == [str(seq) for seq in range(1, len(frames) + 1)]
    assert [frame.data["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame.data["turn_id"] for frame in frames} == {frames[0].data["turn_id"]}
    assert {frame.data["conversation_id"] for frame in frames} == {id_ or frames[0].data["conversation_id"]}
    for frame in frames:
        assert frame.data.keys() == KEYS[frame.event]
    return frames


def texts(frames: list[Frame]) -> list[str]:
    return [frame.data["text"] for frame in frames if frame.event == "delta"]


def test_the_headers_tell_proxies_not_to_buffer(api: Api, id_: str, given_model: GivenModel) -> None:
    with api.stream(id_, given_model(["x"])) as turn:
        headers = turn.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"


def test_a_frame_is_an_id_an_event_and_one_line_of_data(api: Api, id_: str, given_model: GivenModel) -> None:
    body = {"content": "Hi", "model": given_model(["two\nlines", "\r\n\u2028 é🙂"]), "stream": True}
    raw = api.http.post(f"/v1/conversations/{id_}/turns", json=body).content.decode()
    assert raw.endswith("\n\n")
    opened, *frames = raw.removesuffix("\n\n").split("\n\n")
    assert opened == ": open"
    assert len(frames) > 4
    for frame in frames:
        assert re.fullmatch(r"id: \d+\nevent: [a-z.]+\ndata: \{[^\n\r]*\}", frame)


def test_a_turn_streams_exactly_the_models_chunks(api: Api, id_: str, given_model: GivenModel) -> None:
    chunks = ["Hel", "l", "o", " ", "\n", "🙂", "é" * 2000, " ", "end."]
    frames = frames_from(api, id_, given_model(chunks), content="What?")
    assert [frame.event for frame in frames] == ["turn.started", *["delta"] * 9, "block.done", "turn.completed"]
    assert texts(frames) == chunks
    deltas = [frame.data for frame in frames if frame.event == "delta"]
    assert [delta["delta_index"] for delta in deltas] == list(range(9))
    assert {(delta["block_index"], delta["block_type"]) for delta in deltas} == {(0, "text")}
    assert frames[-2].data["block"] == {"type": "text", "text": "".join(chunks)}


def test_the_first_and_last_frames_hold_what_the_views_show(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(["Hello"])
    frames = frames_from(api, id_, model, content="What?")
    first, last = frames[0].data, frames[-1].data
    user, assistant = api.messages(id_)
    check_message(first["user_message"])
    check_message(last["message"])
    check_turn(last["turn"])
    assert (first["user_message"], first["message_id"], first["model"]) == (user, assistant["id"], model)
    assert last["message"] == assistant
    assert last["turn"] == api.get(f"/v1/conversations/{id_}/turns/{first['turn_id']}")


def test_the_content_of_a_frame_can_be_read_at_once(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(["a", "b"])
    for _ in range(10):
        with api.stream(id_, model) as turn:
            started = next(turn.frames).data
            path = f"/v1/conversations/{id_}"
            assert api.get(f"{path}/messages/{started['user_message']['id']}") == started["user_message"]
            *_, last = turn.frames
            assert api.get(f"{path}/messages/{started['message_id']}") == last.data["message"]
            assert api.get(f"{path}/turns/{started['turn_id']}") == last.data["turn"]
            assert api.get(path)["status"] == "idle"


def test_reasoning_is_separate_from_the_answer(api: Api, id_: str, given_model: GivenModel) -> None:
    frames = frames_from(api, id_, given_model([Reasoning("H"), Reasoning("m"), "Yes", Reasoning("So"), "No"]))
    expected = ["turn.started", "delta", "delta", "block.done", "delta", "block.done", "delta", "block.done", "delta"]
    assert [frame.event for frame in frames] == [*expected, "block.done", "turn.completed"]
    deltas = [frame.data for frame in frames if frame.event == "delta"]
    places = [(delta["block_index"], delta["block_type"], delta["delta_index"]) for delta in deltas]
    assert places == [(0, "reasoning", 0), (0, "reasoning", 1), (1, "text", 0), (2, "reasoning", 0), (3, "text", 0)]
    blocks = [frame.data["block"] for frame in frames if frame.event == "block.done"]
    assert blocks == frames[-1].data["message"]["content"]
    assert blocks[0] == {"type": "reasoning", "text": "Hm"}


def test_a_turn_in_a_new_conversation_streams_too(api: Api, given_model: GivenModel) -> None:
    frames = frames_from(api, None, given_model(["Hello"]), title="T")
    assert api.get(f"/v1/conversations/{frames[0].data['conversation_id']}")["title"] == "T"


def test_a_refusal_before_the_first_chunk_ends_the_stream(api: Api, id_: str, given_model: GivenModel) -> None:
    frames = frames_from(api, id_, given_model(BAD_KEY))
    assert [frame.event for frame in frames] == ["turn.started", "turn.failed"]
    last = frames[-1].data
    check_turn(last["turn"])
    assert (last["turn"]["status"], last["message"]) == ("failed", None)
    assert last["error"] == last["turn"]["error"]
    assert last["error"]["code"] == "model_auth"


def test_a_failure_in_the_middle_keeps_the_text(api: Api, id_: str, given_model: GivenModel) -> None:
    frames = frames_from(api, id_, given_model(["Hel", "lo", BreakOff()]))
    expected = ["turn.started", "delta", "delta", "block.done", "turn.failed"]
    assert [frame.event for frame in frames] == expected
    shown = frames[-1].data["message"]
    check_message(shown)
    assert (shown["status"], shown["content"]) == ("interrupted", [{"type": "text", "text": "Hello"}])
    assert api.messages(id_)[-1] == shown


def test_a_message_that_is_being_streamed_shows_its_text_so_far(api: Api, id_: str, given_model: GivenModel) -> None:
    with api.stream(id_, given_model([Reasoning("Hm"), "Hel", "lo", Hang()])) as turn:
        started = next(turn.frames).data
        path = f"/v1/conversations/{id_}/messages/{started['message_id']}"
        so_far = [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Hello"}]
        eventually(lambda: api.get(path)["content"] == so_far)
        message = api.get(path)
        check_message(message)
        shown = {"status": "streaming", "role": "assistant", "in_reply_to": started["user_message"]["id"]}
        assert message.items() >= {**shown, "turn_id": started["turn_id"]}.items()
        assert api.messages(id_) == [started["user_message"], message]
        running = api.get(f"/v1/conversations/{id_}/turns/{started['turn_id']}")
        check_turn(running)
        assert running["status"] == "running"
        api.http.post(f"/v1/conversations/{id_}/turns/{started['turn_id']}/cancel")


def test_chunks_are_recorded_while_the_model_still_sends(api: Api, id_: str, given_model: GivenModel) -> None:
    def recorded() -> list[str]:
        deltas = [event["data"] for event in api.events(id_) if event["type"] == "StreamDelta"]
        return [chunk for delta in deltas for chunk in delta["chunks"]]

    with api.stream(id_, given_model(["a", Pause(0.1), "b", Hang()])) as turn:
        turn_id = next(turn.frames).data["turn_id"]
        eventually(lambda: recorded() == ["a", "b"])
        api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
    assert [event["type"] for event in api.events(id_)][-2:] == ["MessageAdded", "TurnCancelled"]


def test_a_client_that_disconnects_does_not_stop_the_turn(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(Script(["Hel", "lo", Pause(0.3), " there"]))
    with api.stream(id_, model) as turn:
        assert next(turn.frames).event == "turn.started"
    assert api.get(f"/v1/conversations/{id_}")["status"] == "running"
    eventually(lambda: api.get(f"/v1/conversations/{id_}")["status"] == "idle")
    assert api.messages(id_)[-1]["status"] == "completed"
    assert api.messages(id_)[-1]["content"] == [{"type": "text", "text": "Hello there"}]
    (request,) = [request for request in models.requests if request.model == model]
    assert not request.gave_up


def test_a_client_that_stops_waiting_for_a_whole_answer_does_not_stop_the_turn(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    model = given_model(["Hel", Pause(0.5), "lo"])
    body = {"content": "Hi", "model": model}
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(f"/v1/conversations/{id_}/turns", json=body, timeout=0.2)
    eventually(lambda: api.get(f"/v1/conversations/{id_}")["message_count"] == 2)
    assert api.messages(id_)[-1]["content"] == [{"type": "text", "text": "Hello"}]


def test_a_silent_stream_is_kept_alive_by_comments(
    api: Api, id_: str, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_S", 0.05)
    with api.stream(id_, given_model([Pause(0.5), "x"])) as turn:
        lines = list(turn.response.iter_lines())
    comments = [line for line in lines if line.startswith(":")]
    assert len(comments) >= 3
    assert lines[lines.index(comments[0]) + 1] == ""


def test_a_stream_answers_before_the_model_sends_anything(api: Api, id_: str, given_model: GivenModel) -> None:
    with api.stream(id_, given_model([Hang()])) as turn:
        lines = turn.response.iter_lines()
        assert (next(lines), next(lines)) == (": open", "")
        turn_id = api.get(f"/v1/conversations/{id_}")["active_turn_id"]
        assert api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel").status_code == 200


def test_many_turns_stream_concurrently(api: Api, given_model: GivenModel) -> None:
    model = given_model(Script([f"{number} " for number in range(20)], delay_s=0.01))
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda _: texts(frames_from(api, None, model)), range(16)))
    assert answers == [[f"{number} " for number in range(20)]] * 16
