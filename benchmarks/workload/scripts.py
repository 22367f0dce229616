"""Scripts of the generated log's conversations, made by the domain's decisions.

A step is a JSON template with names in the places of ids. The decisions run once for each text, because running them
for each of a million events would take too long.
"""

import re
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from benchmarks.workload.texts import english
from domain.content import Role, TextBlock
from domain.conversation import Conversation, fold
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Draft, Events, MessagePlace, Origin
from domain.decisions.running_turns import ModelAnswer
from domain.decisions.turn_starts import TurnIds, TurnSettings
from domain.events import ConversationEvent
from domain.model_usage import Usage
from eventlog.clock import now
from eventlog.mapper import new_row

VARIANTS = 200
RARE_VARIANTS = 20
CHUNK_CHARACTERS = 4
CHUNKS_OF_A_DELTA = 30
MODEL = "turnlog/demo"
ENCODING = "o200k_base"

_NAMES = ("owner", "turn", "question", "answer", "deleted", "closing")
_IDS = {name: UUID(int=number) for number, name in enumerate(_NAMES, start=1)}


class Step(NamedTuple):
    """One event: its type, its JSON template, and its delay after the previous one.

    The template takes the ids of `_IDS`, and as `asked` the version of the question, which is its script's first event.
    """

    type: str
    template: str
    after_us: int


Script = list[Step]


class Scripts(NamedTuple):
    """Several scripts of each kind, with different texts."""

    beginnings: list[Script]
    completed: list[Script]
    failed: list[Script]
    cancelled: list[Script]
    recorded: list[Script]
    updates: list[Script]
    deletions: list[Script]
    ends: list[Script]


def scripts(random: Random) -> Scripts:
    """Return all scripts.

    Questions have 200 characters. Answers have 800 on average and are streamed in seven deltas.
    """
    return Scripts(
        [_beginning(random, number) for number in range(RARE_VARIANTS)],
        [_Turn(random).completed() for _ in range(VARIANTS)],
        [_Turn(random).failed() for _ in range(RARE_VARIANTS)],
        [_Turn(random).cancelled() for _ in range(RARE_VARIANTS)],
        [_recorded(random) for _ in range(RARE_VARIANTS)],
        [_update(random) for _ in range(RARE_VARIANTS)],
        [_deletion()],
        [_end()],
    )


class _ScriptBuilder:
    """A conversation that records its steps, without those of its start."""

    def __init__(self, **started: Any) -> None:
        self.steps: Script = []
        self._state: Conversation | None = None
        self.record(0, conversations.start_conversation(UUID(int=0), self.origin(), **started))

    @property
    def state(self) -> Conversation:
        assert self._state is not None
        return self._state

    def origin(self) -> Origin:
        return Origin(str(_IDS["owner"]), f"user:{_IDS['owner']}", now())

    def record(self, after_us: int, events: Events) -> None:
        self._state = fold(self._state, events)
        delays = [after_us, *([0] * len(events))]
        self.steps += [Step(event.TOPIC, _template(event), delay) for event, delay in zip(events, delays, strict=False)]

    def since_start(self) -> Script:
        return self.steps[1:]


class _Turn(_ScriptBuilder):
    """A turn that has streamed its answer and is not yet ended."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._chunks = _chunks(english(random, random.randint(300, 1300)))
        self._streamed = 0
        asked = _draft("question", "user", english(random, random.randint(120, 280)))
        ids = TurnIds(_IDS["turn"], _IDS["answer"], _IDS["closing"])
        self.record(0, turn_starts.start_turn(self.state, self.origin(), asked, TurnSettings(MODEL), ids))

    def completed(self) -> Script:
        self._stream(len(self._chunks))
        text = "".join(self._chunks)
        answer = self._answer(text, _usage(self._random, text), "stop")
        return self._ended(running_turns.complete_turn(self.state, self.origin(), _IDS["turn"], answer))

    def failed(self) -> Script:
        self._stream(len(self._chunks) // 2)
        why = {"reason": "model_timeout", "detail": "The model did not answer in time."}
        return self._ended(running_turns.fail_turn(self.state, self.origin(), _IDS["turn"], self._answer(), **why))

    def cancelled(self) -> Script:
        self._stream(len(self._chunks) // 3)
        return self._ended(
            running_turns.cancel_turn(self.state, self.origin(), _IDS["turn"], self._answer(), _IDS["closing"])
        )

    def _stream(self, count: int) -> None:
        for first in range(0, count, CHUNKS_OF_A_DELTA):
            chunks = tuple(self._chunks[first : min(first + CHUNKS_OF_A_DELTA, count)])
            # The first frame of a turn is its start, so the first chunk is the second.
            place = {"first_seq": first + 2, "block_index": 0, "block_type": "text", "first_delta_index": first}
            delta = running_turns.record_delta(self.state, self.origin(), _IDS["turn"], **place, chunks=chunks)
            self.record(self._random.randint(100_000, 500_000), delta)
        self._streamed = count

    def _answer(self, text: str = "", usage: Usage | None = None, finish_reason: str | None = None) -> ModelAnswer:
        content = text or "".join(self._chunks[: self._streamed])
        timings = (self._random.uniform(200, 900), self._random.uniform(1000, 9000))
        return ModelAnswer((TextBlock(text=content),), len(content) // 5, ENCODING, usage, finish_reason, *timings)

    def _ended(self, events: Events) -> Script:
        self.record(20_000, events)
        return self.since_start()


def _beginning(random: Random, number: int) -> Script:
    """Return the start of a conversation, in half the cases with a system message."""
    system = [_draft("question", "system", english(random, 300))] if number % 2 else []
    metadata = {"plan": random.choice(["free", "pro"]), "locale": "en", "number": number}
    title = english(random, random.randint(20, 60))
    return _ScriptBuilder(agent_id=f"agent-{number % 5}", title=title, metadata=metadata, messages=system).steps


def _recorded(random: Random) -> Script:
    """Return a question and its answer, both added by the client."""
    builder = _ScriptBuilder()
    question, answer = english(random, random.randint(120, 280)), english(random, random.randint(300, 1300))
    asked, answered = _draft("question", "user", question), _draft("answer", "assistant", answer)
    builder.record(0, conversations.add_message(builder.state, builder.origin(), asked, _IDS["closing"]))
    builder.record(500_000, conversations.add_message(builder.state, builder.origin(), answered, _IDS["closing"]))
    return builder.since_start()


def _update(random: Random) -> Script:
    builder = _ScriptBuilder()
    changes = {"title": english(random, random.randint(20, 60)), "metadata": {"starred": True}}
    builder.record(0, conversations.update_conversation(builder.state, builder.origin(), changes))
    return builder.since_start()


def _deletion() -> Script:
    """Return the deletion of an earlier message."""
    builder = _ScriptBuilder(messages=[_draft("deleted", "user", "So?")])
    builder.record(0, conversations.delete_message(builder.state, builder.origin(), _IDS["deleted"], MessagePlace(2)))
    return builder.steps[2:]


def _end() -> Script:
    builder = _ScriptBuilder()
    builder.record(0, conversations.delete_conversation(builder.state, builder.origin()))
    return builder.since_start()


def _draft(name: str, role: Role, text: str) -> Draft:
    return Draft(_IDS[name], role, (TextBlock(text=text),), len(text) // 5, ENCODING)


def _usage(random: Random, text: str) -> Usage:
    tokens = {"input_tokens": random.randint(50, 4000), "output_tokens": len(text) // 5}
    return Usage.model_validate({**tokens, "cost_usd": f"0.{random.randint(1, 99999):06}"})


def _chunks(text: str) -> list[str]:
    return [text[first : first + CHUNK_CHARACTERS] for first in range(0, len(text), CHUNK_CHARACTERS)]


def _template(event: ConversationEvent) -> str:
    template = new_row(event).data.decode().replace("%", "%%")
    for name, placeholder in _IDS.items():
        template = template.replace(str(placeholder), f"%({name})s")
    return re.sub(r'"user_message_version":\d+', '"user_message_version":%(asked)s', template)
