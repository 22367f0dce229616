"""Client turns: the client runs the model, and its stream is recorded here."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from commands.commands import Caller, count_tokens
from commands.executor import CommandExecutor, Committed, Decision
from commands.tokens import Tokenizer
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.decisions.guards import check_access, check_client_turn
from domain.decisions.running_turns import ModelAnswer
from domain.errors import DeltaOutOfOrderError
from domain.model_usage import Usage
from turns.frames.replay import TurnKey, TurnReader, TurnReplay
from turns.upkeep.leases import Leases

KNOWN_TURNS = 1000


class ClientTurns:
    """Records what clients stream.

    Any process can take the next batch of a turn, because the log has its number. Every method raises the
    conversation's errors, and TurnNotActiveError if the turn has ended or a server runs it.
    """

    def __init__(self, executor: CommandExecutor, tokenizer: Tokenizer, reader: TurnReader, leases: Leases) -> None:
        self._executor = executor
        self._reader = reader
        self._tokenizer = tokenizer
        self._leases = leases
        self._replays: OrderedDict[UUID, TurnReplay] = OrderedDict()

    def forget(self) -> None:
        """Forget how far the turns are, because the log may have lost its end."""
        self._replays.clear()

    async def record(
        self, caller: Caller, conversation_id: UUID, turn_id: UUID, seq: int, chunks: Sequence[str]
    ) -> tuple[int, int | None]:
        """Record chunks, of which the first is frame `seq`.

        Chunks that are recorded already are skipped. An empty batch keeps the turn open. Return the number of the next
        frame, and the position of the recorded chunks (None if there were none).

        Raises:
            DeltaOutOfOrderError: chunks before these are missing.
        """
        next_seq = seq

        async def decide(state: Conversation) -> Events:
            nonlocal next_seq
            check_access(state, caller.owner_id)
            replay = await self._replayed(state, turn_id)
            if seq > replay.next_seq:
                raise DeltaOutOfOrderError(turn_id, seq, replay.next_seq)
            new = tuple(chunks[replay.next_seq - seq :])
            next_seq = replay.next_seq + len(new)
            if not new:
                return []
            first = {"first_seq": replay.next_seq, "block_index": 0, "first_delta_index": replay.next_seq - 2}
            return running_turns.record_delta(state, caller.origin(), turn_id, **first, block_type="text", chunks=new)

        committed = await self._executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)
        await self._leases.extend_for_client(conversation_id, turn_id)
        return next_seq, committed.position

    async def complete(
        self, caller: Caller, conversation_id: UUID, turn_id: UUID, usage: Usage | None, finish_reason: str
    ) -> Committed:
        """End a turn. The recorded chunks are the answer."""

        async def decide(state: Conversation) -> Events:
            origin = caller.origin()
            answer = await self._answer(state, origin, turn_id)
            whole = answer._replace(usage=usage, finish_reason=finish_reason)
            return running_turns.complete_turn(state, origin, turn_id, whole)

        return await self._end(caller, conversation_id, turn_id, decide)

    async def fail(self, caller: Caller, conversation_id: UUID, turn_id: UUID, detail: str) -> Committed:
        """End a turn whose model failed.

        The recorded chunks are kept as an interrupted message.
        """

        async def decide(state: Conversation) -> Events:
            origin = caller.origin()
            answer = await self._answer(state, origin, turn_id)
            return running_turns.fail_turn(state, origin, turn_id, answer, reason="model_error", detail=detail)

        return await self._end(caller, conversation_id, turn_id, decide)

    async def _end(self, caller: Caller, conversation_id: UUID, turn_id: UUID, decide: Decision) -> Committed:
        committed = await self._executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)
        self._replays.pop(turn_id, None)
        self._leases.drop(turn_id)
        return committed

    async def _answer(self, state: Conversation, origin: Origin, turn_id: UUID) -> ModelAnswer:
        check_access(state, origin.owner_id)
        replay = await self._replayed(state, turn_id)
        content = replay.content()
        started_at = replay.started.timestamp if replay.started else None
        return ModelAnswer(
            content,
            await count_tokens(self._tokenizer, content),
            self._tokenizer.name,
            time_to_first_token_ms=_ms_between(started_at, replay.first_chunk_at),
            duration_ms=_ms_between(started_at, origin.at),
        )

    async def _replayed(self, state: Conversation, turn_id: UUID) -> TurnReplay:
        """Return the turn as far as the log has it at this state of the conversation."""
        turn = check_client_turn(state, turn_id)
        key = TurnKey(state.id, turn_id, turn.first_version)
        replay = self._replays.get(turn_id)
        if replay is None or replay.next_version > state.version + 1:
            replay = await self._reader.begin(key)
        self._replays[turn_id] = replay
        self._replays.move_to_end(turn_id)
        if len(self._replays) > KNOWN_TURNS:
            self._replays.popitem(last=False)
        if replay.next_version <= state.version:
            await self._reader.read(key, replay, last=state.version)
        return replay


def _ms_between(begin: datetime | None, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds() * 1000, 3) if begin and end else None
