"""Clients send and get the bytes of images. The log and feeds hold references."""

import json
from base64 import b64encode
from hashlib import sha256
from itertools import islice
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.refusals import CONVERSATION, TAKES_A_BODY, ask, check_invalid
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import Hang
from tests.support.models.model_server import ModelServer
from tests.support.store import rows, value
from tests.support.waiting import eventually

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
IMAGE = {"type": "image", "media_type": "image/png", "data": b64encode(PNG).decode()}
STORED = {"type": "image", "media_type": "image/png", "sha256": sha256(PNG).hexdigest()}
TEXT = {"type": "text", "text": "What is this?"}
SENT = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE['data']}"}}
TAKES_CONTENT = [(method, path, body) for method, path, body in TAKES_A_BODY if "content" in body]


def stored_content(api: Api, id_: str) -> list[Any]:
    """Return the content of every message as stored in the log."""
    return [event["data"]["content"] for event in api.events(id_) if event["type"] == "MessageAdded"]


def test_an_image_that_is_sent_three_times_is_stored_once(fresh_api: Api, database_url: str) -> None:
    one = fresh_api.conversation(messages=[{"role": "user", "content": [IMAGE]}])["id"]
    other = fresh_api.conversation()["id"]
    fresh_api.message(one, [IMAGE])
    fresh_api.message(other, [TEXT, IMAGE])
    assert rows(database_url, "SELECT sha256, media_type, data FROM images") == [
        (sha256(PNG).digest(), "image/png", PNG)
    ]
    assert value(database_url, "SELECT count(*) FROM events WHERE strpos(data::text, %s) > 0", [IMAGE["data"]]) == 0
    assert [message["content"] for id_ in (one, other) for message in fresh_api.messages(id_)] == [
        [IMAGE],
        [IMAGE],
        [TEXT, IMAGE],
    ]


def test_clients_get_the_bytes_and_the_log_shows_the_reference(api: Api, id_: str) -> None:
    stored = api.message(id_, [TEXT, IMAGE])
    assert stored["content"] == [TEXT, IMAGE]
    assert api.get(f"/v1/conversations/{id_}/messages/{stored['id']}") == stored
    assert api.messages(id_) == api.messages(id_, order="desc") == [stored]
    assert stored_content(api, id_) == [[TEXT, STORED]]


def test_a_feed_shows_the_reference(api: Api, id_: str) -> None:
    api.message(id_, [IMAGE])
    with api.http.stream("GET", f"/v1/conversations/{id_}/events", headers={"Last-Event-ID": "0"}) as feed:
        *_, data = islice((line for line in feed.iter_lines() if line.startswith("data: ")), 2)
    assert json.loads(data.removeprefix("data: "))["data"]["content"] == [STORED]


def test_a_repeated_message_has_the_same_bytes(api: Api, id_: str) -> None:
    body = {"role": "user", "content": [TEXT, IMAGE]}
    first, again = (
        api.http.post(f"/v1/conversations/{id_}/messages", json=body, headers={"Idempotency-Key": f"image-{id_}"})
        for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(api.messages(id_)) == 1


def test_a_model_is_sent_the_bytes(api: Api, id_: str, given_model: GivenModel, models: ModelServer) -> None:
    api.message(id_, [TEXT, IMAGE])
    assert api.get(f"/v1/conversations/{id_}/context")["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": TEXT["text"]}, SENT]}
    ]
    model = given_model(["A cat."])
    assert api.turn(id_, model, content=[IMAGE]).status_code == 201
    (request,) = [request for request in models.requests if request.model == model]
    assert [part for message in request.body["messages"] for part in message["content"]][-2:] == [SENT, SENT]


@pytest.mark.parametrize("conversation", ["of its own", "that is new"])
def test_a_turn_shows_the_bytes_of_its_question(api: Api, id_: str, given_model: GivenModel, conversation: str) -> None:
    path = f"/v1/conversations/{id_}/turns" if conversation == "of its own" else "/v1/turns"
    question = {"content": [TEXT, IMAGE], "model": given_model(["A cat."])}
    key = {"Idempotency-Key": uuid4().hex}
    whole, repeated = (api.http.post(path, json=question, headers=key).json() for _ in range(2))
    assert repeated == whole
    assert whole["user_message"]["content"] == [TEXT, IMAGE]
    turn = whole["turn"]
    assert stored_content(api, turn["conversation_id"])[0] == [TEXT, STORED]
    stream = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}/stream"
    with api.http.stream("GET", stream) as response:
        started = next(frames_of(response))
    assert started.data["user_message"] == whole["user_message"]


def test_a_streamed_turn_begins_with_the_bytes_of_its_question(api: Api, id_: str, given_model: GivenModel) -> None:
    with api.stream(id_, given_model(["A cat."]), content=[IMAGE]) as turn:
        started, *_ = turn.frames
    assert started.data["user_message"]["content"] == [IMAGE]


def test_a_turn_is_cancelled_from_another_server_after_its_image_was_removed(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        with here.stream(id_, given_model(["Nice", Hang()]), content=[TEXT, IMAGE]) as turn:
            seen = [next(turn.frames) for _ in range(2)]
            rows(database_url, "DELETE FROM images")
            cancelled = there.http.post(f"/v1/conversations/{id_}/turns/{seen[0].data['turn_id']}/cancel")
            assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
        assert cancelled.status_code == 503  # the turn cannot be shown without its image, but it has ended
        assert there.get(f"/v1/conversations/{id_}")["status"] == "idle"


@pytest.mark.parametrize("more", [{"media_type": "image/png"}, {}, IMAGE, {"url": "https://example.org/a.png"}])
@pytest.mark.parametrize(("method", "path", "body"), TAKES_CONTENT)
def test_a_client_cannot_refer_to_an_image_by_its_hash(
    api: Api, id_: str, method: str, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    api.message(api.conversation()["id"], [IMAGE])
    content = [TEXT, {**more, "type": "image", "sha256": STORED["sha256"]}]
    check_invalid(ask(api, method, path, id_, json.dumps({**body, "content": content})), "body", "content", 1)
    assert api.messages(id_) == []


def test_a_conversation_cannot_start_with_the_hash_of_an_image(api: Api) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "user", "content": [STORED]}]
    response = api.http.post("/v1/conversations", json={"messages": messages})
    check_invalid(response, "body", "messages", 1, "content", 0)


def test_an_invalid_image_in_the_first_messages_is_named_by_its_index(api: Api) -> None:
    messages = [
        {"role": "user", "content": [IMAGE]},
        {"role": "user", "content": [TEXT, {"type": "image", "data": IMAGE["data"]}]},
    ]
    response = api.http.post("/v1/conversations", json={"messages": messages})
    check_invalid(response, "body", "messages", 1, "content", 1)


def test_an_image_of_7_mib_is_stored_and_returned(api: Api, id_: str) -> None:
    large = {**IMAGE, "data": b64encode(PNG + bytes(range(256)) * (7 * 4096)).decode()}
    stored = api.message(id_, [large])
    assert stored["content"] == [large]
    assert api.messages(id_) == [stored]
    (content,) = api.get(f"/v1/conversations/{id_}/context")["messages"][0]["content"]
    assert content["image_url"]["url"] == f"data:image/png;base64,{large['data']}"


def test_an_image_is_refused_while_the_database_is_down(database_url: str, postgres: str, serve: Serve) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    with serve(database_url) as api, psycopg.connect(postgres, autocommit=True) as connection:

        def admit(admitted: bool) -> None:
            statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            connection.execute(statement.format(sql.Identifier(str(name)), admitted))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

        id_ = api.conversation()["id"]
        body = json.dumps({"role": "user", "content": [IMAGE]})
        admit(False)
        check_problem(ask(api, "POST", f"{CONVERSATION}/messages", id_, body), 503, "STORE_UNAVAILABLE")
        admit(True)
        eventually(lambda: ask(api, "POST", f"{CONVERSATION}/messages", id_, body).status_code == 201)
        assert [message["content"] for message in api.messages(id_)] == [[IMAGE]]
