"""The services of a serving process: how they are built, opened and closed."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from api.auth.authenticator import Authenticator, by_tokens, open_keys
from api.settings import Settings
from commands.commands import Commands
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from eventlog.background import cancel_and_wait
from eventlog.broadcast import Broadcast
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.image_store import Images
from eventlog.log import Log
from eventlog.opening import OpenLog, open_log
from projections.catalog import PROJECTIONS, prepare
from projections.engine import Engine
from projections.models.context import Context
from projections.models.history import History
from projections.models.listing import Listing
from projections.progress import Progress
from projections.rebuild.jobs import RebuildJobs
from turns.cancels import Cancels
from turns.client_turns import ClientTurns
from turns.context_budget import ContextBudget
from turns.event_feeds import EventFeeds
from turns.frames.replay import TurnReader
from turns.leases import Leases
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelTimeouts
from turns.model_input import ModelInput
from turns.queue import TurnQueue
from turns.recovery import Recovery
from turns.turn_runner import TurnRunner
from turns.turn_streams import TurnStreams
from turns.turns import Turns

# Python's garbage collector runs after 700 new objects by default. Here that takes a twentieth of the processor time of
# a message, and frees next to nothing.
GC_THRESHOLD_OBJECTS = 20_000


@dataclass(frozen=True)
class Services:
    """The services that routes use, and those that `open_services` opens."""

    settings: Settings
    authenticator: Authenticator
    database: Database
    log: Log
    images: Images
    commands: Commands
    progress: Progress
    engine: Engine
    rebuilds: RebuildJobs
    listing: Listing
    history: History
    reader: TurnReader
    model_input: ModelInput
    leases: Leases
    recovery: Recovery
    turns: Turns
    cancels: Cancels
    streams: TurnStreams
    client_turns: ClientTurns
    feeds: EventFeeds

    async def drain(self, grace_s: float) -> None:
        """Refuse new turns, give running ones `grace_s` seconds, and end live streams."""
        await self.turns.drain(grace_s)
        self.feeds.close()
        self.streams.close()


@asynccontextmanager
async def open_services(settings: Settings, conninfo: str) -> AsyncGenerator[Services]:
    """Bring the log up to date, and open it with all services.

    At the end of the block, running turns are ended and everything is closed in reverse order.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    async with AsyncExitStack() as stack:
        with translated_errors():
            await asyncio.to_thread(prepare, conninfo, settings.log_schema)
        opened = await stack.enter_async_context(open_log(conninfo, settings.log_schema, listening=False))
        broadcast = Broadcast(opened.feed)
        await _open(stack, broadcast)
        await opened.feed.refresh()  # so that a subscriber begins with the next event, and not with the first
        executor = CommandExecutor(opened.log, opened.writer)
        stack.push_async_callback(executor.close)
        tokenizer, gateway = Tokenizer(), _model_gateway(settings)
        stack.push_async_callback(gateway.aclose)
        authenticator = _open_authenticator(stack, settings, opened.database)
        services = _build_services(settings, authenticator, opened, broadcast, executor, tokenizer, gateway)
        opened.database.on_reconnect(services.client_turns.forget)
        opened.feed.on_rewind(lambda _: services.streams.restart())
        # The channels open once every handler is registered, so that no notification is missed.
        await _open(stack, opened.channels)
        await _open(stack, services.engine)
        await services.leases.open(services.recovery.recover)
        stack.push_async_callback(services.leases.close)
        stack.push_async_callback(services.turns.drain, 0)
        stack.push_async_callback(cancel_and_wait, [asyncio.create_task(_warm_up(tokenizer, gateway))])
        services.rebuilds.open()
        stack.push_async_callback(services.rebuilds.close)
        stack.push_async_callback(opened.database.give_up_if_unreachable)
        yield services


class _Openable(Protocol):
    """A service that works from `open` to `close`."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _open(stack: AsyncExitStack, service: _Openable) -> None:
    await service.open()
    stack.push_async_callback(service.close)


def _build_services(
    settings: Settings,
    authenticator: Authenticator,
    opened: OpenLog,
    broadcast: Broadcast,
    executor: CommandExecutor,
    tokenizer: Tokenizer,
    gateway: ModelGateway,
) -> Services:
    database, log, images = opened.database, opened.log, opened.images
    progress = Progress(projection.name for projection in PROJECTIONS)
    commands = Commands(executor, tokenizer, images)
    reader = TurnReader(log, tokenizer, images)
    budget = ContextBudget(gateway, settings.max_context_tokens)
    model_input = ModelInput(log, Context(database, log), progress, budget)
    leases = Leases(database)
    runner = TurnRunner(executor, tokenizer, gateway, model_input, progress, broadcast, reader, leases)
    queue = TurnQueue(log, broadcast, leases)
    cancels = Cancels(executor, reader, runner, opened.channels, broadcast)
    turns = Turns(commands, reader, runner, queue, cancels, leases)
    queue.open(turns.start_queued)
    streams = TurnStreams(runner, queue, reader, broadcast, progress)
    return Services(
        settings=settings,
        authenticator=authenticator,
        database=database,
        log=log,
        images=images,
        commands=commands,
        progress=progress,
        engine=Engine(database, opened.feed, opened.channels, progress, PROJECTIONS),
        rebuilds=RebuildJobs(database),
        listing=Listing(database),
        history=History(database),
        reader=reader,
        model_input=model_input,
        leases=leases,
        recovery=Recovery(executor, reader, queue),
        turns=turns,
        cancels=cancels,
        streams=streams,
        client_turns=ClientTurns(executor, tokenizer, reader, leases),
        feeds=EventFeeds(executor, opened.feed, streams),
    )


def _open_authenticator(stack: AsyncExitStack, settings: Settings, database: Database) -> Authenticator:
    if settings.auth == "keys":
        return open_keys(stack, database)
    if settings.auth == "none":
        return by_tokens(database, None, settings.auth)
    # Without JSON Web Tokens, a process saves the time and the memory of their libraries.
    from api.auth.json_web_tokens import FixedKey, JWTVerifier, TokenRules
    from api.auth.jwks import KeySet
    from api.auth.verifying_keys import public_key, secret_key

    rules = TokenRules(settings.jwt_issuer, settings.jwt_audience, settings.jwt_owner_claim, settings.jwt_role_claim)
    if settings.jwt_jwks_url is not None:
        key_set = KeySet(settings.jwt_jwks_url)
        stack.push_async_callback(key_set.close)
        verifier = JWTVerifier(key_set, rules)
        key_set.on_change(verifier.forget)
    elif settings.jwt_public_key is not None:
        verifier = JWTVerifier(FixedKey(public_key(settings.jwt_public_key)), rules)
    else:
        assert settings.jwt_secret is not None
        verifier = JWTVerifier(FixedKey(secret_key(settings.jwt_secret.get_secret_value())), rules)
    return by_tokens(database, verifier, settings.auth)


async def _warm_up(tokenizer: Tokenizer, gateway: ModelGateway) -> None:
    """Load the tokenizer and the model library before the first request needs them."""
    await asyncio.to_thread(tokenizer.load)
    await gateway.warm_up()
    # All that is loaded now stays loaded. Frozen, litellm's million objects are not scanned again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS)


def _model_gateway(settings: Settings) -> ModelGateway:
    timeouts = ModelTimeouts(
        first_token_s=settings.model_first_token_timeout_s,
        between_tokens_s=settings.model_between_tokens_timeout_s,
        total_s=settings.model_total_timeout_s,
    )
    return ModelGateway(api_base=settings.model_api_base, api_key=settings.model_api_key, timeouts=timeouts)
