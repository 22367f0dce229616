"""The messages that a model is sent, in the chat format of OpenAI."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.content import (
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.events import MessageAdded
from domain.tools import UNANSWERED
from tests.support.histories.free_histories import free_histories, message
from tests.support.models.openai_rules import check_openai
from turns.model.messages import model_messages
from turns.model.provider_rules import ProviderRules
from turns.model.tool_exchanges import NO_CONTENT

CALL = ToolUseBlock(id="call_1", name="search", input={"q": "Grüße", "n": 2**70})
BLANK = TextBlock(text=" \n")


def user(words: str) -> MessageAdded:
    return message("user", TextBlock(text=words))


def assistant(words: str) -> MessageAdded:
    return message("assistant", TextBlock(text=words))


def calls(*ids: str) -> MessageAdded:
    return message("assistant", *(ToolUseBlock(id=call_id, name="search", input={}) for call_id in ids))


def results(*answers: tuple[str, str]) -> MessageAdded:
    return message("tool", *(ToolResultBlock(tool_use_id=call_id, content=text) for call_id, text in answers))


def sent_content(said: MessageAdded) -> Any:
    """Return the content of the one message that is sent for a recorded one."""
    (sent,) = model_messages([said])
    return sent["content"]


def summaries(*said: MessageAdded) -> list[str]:
    """Return each sent message in short: a letter for the role, text, ids of calls."""
    return [_short(sent) for sent in model_messages(said)]


def _short(sent: dict[str, Any]) -> str:
    made = [call["id"] for call in sent.get("tool_calls", ())]
    words = [sent["content"]] if sent["content"] is not None else []
    return " ".join(
        [sent["role"][0], *words, *made, *([f"= {sent['tool_call_id']}"] if sent["role"] == "tool" else [])]
    )


def test_a_single_text_is_sent_as_a_plain_string() -> None:
    system = message("system", TextBlock(text="Be brief"))
    assert model_messages([system, user("Hello"), assistant("Hi"), user(" Why? ")]) == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": " Why? "},
    ]


def test_an_image_is_sent_as_its_address_or_as_a_data_url() -> None:
    image = ImageBlock(media_type="image/png", data="QUJD")
    linked = ImageBlock(url="https://example.org/cat.png")
    assert sent_content(message("user", TextBlock(text="What?"), image, linked)) == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
    ]


def test_context_is_sent_as_json_between_tags() -> None:
    said = message("user", ContextBlock(data={"page": 3, "title": "Ü"}))
    assert sent_content(said) == [{"type": "text", "text": '<context>{"page":3,"title":"Ü"}</context>'}]


def test_an_answer_is_sent_as_its_text_without_its_reasoning() -> None:
    said = message("assistant", ReasoningBlock(text="Hm"), TextBlock(text="One"), TextBlock(text="Two"))
    assert summaries(user("q"), said) == ["u q", "a One\nTwo"]


@pytest.mark.parametrize("silence", [(), (ReasoningBlock(text="Hm"),), (BLANK,)])
def test_an_answer_without_text_is_omitted(silence: tuple[Any, ...]) -> None:
    assert summaries(user("q1"), message("assistant", *silence), user("q2")) == ["u q1\n\nq2"]


def test_a_tool_call_is_sent_with_its_input_as_json() -> None:
    _, sent, _ = model_messages([user("q"), message("assistant", TextBlock(text="Let me see"), CALL)])
    assert sent["content"] == "Let me see"
    (call,) = sent["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "search")
    assert json.loads(call["function"]["arguments"]) == CALL.input


@pytest.mark.parametrize("blocks", [(CALL,), (BLANK, CALL), (ReasoningBlock(text="Hm"), CALL)])
def test_a_tool_call_without_text_has_no_content(blocks: tuple[Any, ...]) -> None:
    assert model_messages([user("q"), message("assistant", *blocks)])[1]["content"] is None


@pytest.mark.parametrize(("name", "sent"), [("my tool.v2", "my_tool_v2"), ("", "tool"), ("n" * 65, "n" * 64)])
def test_an_invalid_tool_name_is_replaced_by_a_valid_one(name: str, sent: str) -> None:
    called = message("assistant", ToolUseBlock(id="a", name=name, input={}))
    assert model_messages([user("q"), called])[1]["tool_calls"][0]["function"]["name"] == sent


def test_results_follow_their_calls_in_the_order_of_the_calls() -> None:
    said = [user("q"), calls("a", "b"), results(("b", "2")), results(("a", "1")), assistant("3")]
    assert summaries(*said) == ["u q", "a a b", "t 1 = a", "t 2 = b", "a 3"]


def test_a_result_after_other_messages_moves_to_its_call() -> None:
    said = [user("q1"), calls("a"), user("q2"), results(("a", "1")), user("q3")]
    assert summaries(*said) == ["u q1", "a a", "t 1 = a", "u q2\n\nq3"]
    assert summaries(user("q1"), calls("a"), assistant("Wait"), results(("a", "1"))) == [
        "u q1",
        "a a",
        "t 1 = a",
        "a Wait",
    ]


def test_a_call_without_a_result_gets_an_error_result() -> None:
    assert summaries(user("q1"), calls("a", "b"), results(("b", "2")), user("q2")) == [
        "u q1",
        "a a b",
        f"t {UNANSWERED} = a",
        "t 2 = b",
        "u q2",
    ]


def test_results_without_a_call_and_second_results_are_omitted() -> None:
    said = [results(("a", "early")), user("q"), calls("a"), results(("a", "1"), ("a", "2")), results(("z", "3"))]
    assert summaries(*said) == ["u q", "a a", "t 1 = a"]


def test_a_result_belongs_to_the_nearest_call_of_its_id_and_repeated_ids_are_changed() -> None:
    said = [user("q1"), calls("a"), user("q2"), calls("a", "a"), results(("a", "1"), ("a", "2")), user("q3")]
    assert summaries(*said) == [
        "u q1",
        "a a",
        f"t {UNANSWERED} = a",
        "u q2",
        "a a_1 a_2",
        "t 1 = a_1",
        "t 2 = a_2",
        "u q3",
    ]


@pytest.mark.parametrize(
    ("recorded", "sent"),
    [
        (["functions.search:0"], ["functions.search:0"]),
        (["a.1", "a:1"], ["a.1", "a_1_1"]),
        (["a_1", "a", "a"], ["a_1", "a", "a_2"]),
        (["", ""], ["call_0", "call_1"]),
        (["x" * 41], ["x" * 32 + "_0"]),
        (["a__thought__" + "x" * 99], ["a__thought__" + "x" * 99]),
    ],
)
def test_an_id_is_sent_unchanged_unless_a_provider_would_refuse_it(recorded: list[str], sent: list[str]) -> None:
    said = model_messages([user("q"), calls(*recorded), results(*((call_id, call_id) for call_id in recorded))])
    assert [call["id"] for call in said[1]["tool_calls"]] == sent
    assert [(result["tool_call_id"], result["content"]) for result in said[2:]] == [
        (new, old or NO_CONTENT) for new, old in zip(sent, recorded, strict=True)
    ]


@pytest.mark.parametrize(
    ("content", "is_error", "sent"),
    [
        ("42", False, "42"),
        ("", False, NO_CONTENT),
        ("no such file", True, "Error: no such file"),
        ("error 404", True, "error 404"),
        (" ", True, f"Error: {NO_CONTENT}"),
        (UNANSWERED, True, UNANSWERED),
    ],
)
def test_a_failed_result_is_marked_as_an_error(content: str, is_error: bool, sent: str) -> None:
    result = message("tool", ToolResultBlock(tool_use_id="a", content=content, is_error=is_error))
    assert model_messages([user("q"), calls("a"), result])[2]["content"] == sent


def test_system_messages_come_first() -> None:
    system = [message("system", TextBlock(text=words)) for words in ("Be brief", "\n", "Be kind")]
    assert summaries(user("q"), *system, assistant("a")) == ["s Be brief", "s Be kind", "u q", "a a"]


def test_consecutive_messages_of_one_role_are_merged() -> None:
    assert summaries(user("q1"), user("q2"), assistant("a1"), assistant("a2")) == ["u q1\n\nq2", "a a1\n\na2"]
    assert summaries(user("q"), assistant("a1"), calls("a"), assistant("a2"), assistant("a3")) == [
        "u q",
        "a a1 a",
        f"t {UNANSWERED} = a",
        "a a2\n\na3",
    ]


def test_consecutive_texts_and_images_are_the_parts_of_one_message() -> None:
    image = ImageBlock(url="https://example.org/cat.png")
    (sent,) = model_messages([user("Look:"), message("user", BLANK, image), message("user", BLANK), user("Nice?")])
    assert sent["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "text", "text": "Nice?"},
    ]


def test_an_empty_user_message_between_answers_is_sent_as_a_placeholder() -> None:
    assert summaries(user("q"), assistant("a1"), message("user", BLANK), assistant("a2")) == [
        "u q",
        "a a1",
        f"u {NO_CONTENT}",
        "a a2",
    ]


def test_a_placeholder_comes_first_if_no_user_message_does() -> None:
    system = message("system", TextBlock(text="Be brief"))
    assert summaries(system, assistant("Hello!")) == ["s Be brief", f"u {NO_CONTENT}", "a Hello!"]
    assert summaries(system, results(("a", "1"))) == ["s Be brief"]
    assert summaries() == []


def thinking(thought: str, *blocks: Any) -> MessageAdded:
    return message("assistant", ReasoningBlock(text=thought), *blocks)


def thoughts(said: list[MessageAdded], rules: ProviderRules | None = None) -> list[str | None]:
    """Return the reasoning that is sent with each message of the assistant."""
    sent = model_messages(said, rules)
    return [answer.get("reasoning_content") for answer in sent if answer["role"] == "assistant"]


LOOP = [user("q"), thinking("Hm", CALL), results(("call_1", "1"))]


def test_reasoning_of_an_open_tool_loop_is_sent_with_its_calls() -> None:
    (_, sent, _) = model_messages(LOOP)
    assert sent["reasoning_content"] == "Hm"
    assert [call["id"] for call in sent["tool_calls"]] == ["call_1"]


def test_reasoning_in_several_blocks_is_sent_as_one_text() -> None:
    said = thinking("One", TextBlock(text="Let me see"), ReasoningBlock(text=" and two"), CALL)
    assert thoughts([user("q"), said]) == ["One and two"]


def test_every_step_of_an_open_tool_loop_has_its_own_reasoning_or_a_space() -> None:
    steps = [calls("b"), results(("b", "2")), thinking("So", TextBlock(text="It is 2"))]
    assert thoughts([*LOOP, *steps]) == ["Hm", " ", "So"]


def test_messages_merged_before_a_call_are_sent_with_all_their_reasoning() -> None:
    said = [user("q"), thinking("One", TextBlock(text="Well")), thinking("Two", CALL)]
    assert thoughts(said) == ["One\n\nTwo"]


def test_reasoning_of_finished_turns_is_sent_only_if_the_provider_always_wants_it() -> None:
    later = [*LOOP, thinking("So", TextBlock(text="It is 1")), user("And?"), thinking("Oh", TextBlock(text="2"))]
    assert thoughts(later) == [None, None, None]
    assert thoughts(later, ProviderRules("always")) == ["Hm", "So", None]


@pytest.mark.parametrize("reasoning", ["never", "loop", "always"])
def test_reasoning_of_answers_without_calls_is_not_sent(reasoning: Any) -> None:
    assert thoughts([user("q"), thinking("Hm", TextBlock(text="a"))], ProviderRules(reasoning)) == [None]


def test_reasoning_is_not_sent_to_a_provider_that_refuses_it() -> None:
    assert thoughts(LOOP, ProviderRules("never")) == [None]


@pytest.mark.parametrize("thought", [" ", "\n"])
def test_blank_reasoning_is_not_sent(thought: str) -> None:
    assert thoughts([user("q"), thinking(thought, CALL)]) == [None]


SIGNED = {"google": {"thought_signature": "c2ln"}}


def extras(said: list[MessageAdded], rules: ProviderRules | None = None) -> list[Any]:
    """Return the extra content of each call that is sent."""
    sent = model_messages(said, rules)
    return [call.get("extra_content") for message in sent for call in message.get("tool_calls", ())]


def test_the_extra_content_of_a_call_is_sent_with_that_call_only() -> None:
    signed = CALL.model_copy(update={"extra_content": SIGNED})
    other = ToolUseBlock(id="call_2", name="search", input={})
    said = [user("q"), message("assistant", signed, other), results(("call_1", "1"), ("call_2", "2"))]
    assert extras(said) == [SIGNED, None]
    assert "extra_content" not in model_messages(said)[1]["tool_calls"][1]


def test_the_extra_content_of_a_call_is_sent_to_the_model_that_it_came_from() -> None:
    signed = message("assistant", CALL.model_copy(update={"extra_content": SIGNED}))
    said = [user("q"), signed.model_copy(update={"model": "openai/gemini-3-pro"})]
    assert extras(said, ProviderRules(model="openai/gemini-3-pro")) == [SIGNED]
    assert extras(said, ProviderRules(model="gpt-4o")) == [None]
    assert extras([user("q"), signed], ProviderRules(model="gpt-4o")) == [SIGNED]  # a client recorded it


def test_a_signature_in_an_id_and_one_in_extra_content_are_both_sent() -> None:
    call = CALL.model_copy(update={"id": "a__thought__c2ln", "extra_content": SIGNED})
    said = [user("q"), message("assistant", call), results(("a__thought__c2ln", "1"))]
    (_, answer, result) = model_messages(said)
    assert (answer["tool_calls"][0]["id"], answer["tool_calls"][0]["extra_content"]) == ("a__thought__c2ln", SIGNED)
    assert result["tool_call_id"] == "a__thought__c2ln"


RULES = [ProviderRules(), ProviderRules("never", "gpt-4o"), ProviderRules("always", "deepseek/deepseek-chat")]


@settings(max_examples=150, database=None)
@given(free_histories(), st.sampled_from(RULES))
def test_any_recorded_history_is_sent_in_a_form_valid_for_openai(
    said: list[MessageAdded], rules: ProviderRules
) -> None:
    sent = model_messages(said, rules)
    check_openai(sent)
    thinking = [place for place, message in enumerate(sent) if "reasoning_content" in message]
    asked = [place for place, message in enumerate(sent) if message["role"] == "user"]
    assert not thinking or rules.reasoning != "never"
    assert not thinking or rules.reasoning == "always" or min(thinking) > max(asked)
