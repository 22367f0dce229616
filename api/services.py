"""The services of a serving process: how they are built, opened and closed."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from api.auth.audit_reads import AuditReads
from api.auth.authenticator import Authenticator, by_tokens, open_keys
from api.limits.request_allowances import RequestLimit
from api.limits.stream_slots import StreamLimit
from api.settings import Settings
from api.telemetry.logs import log_configuration
from api.telemetry.meters import Meters
from api.telemetry.sampling import Sampling
from api.telemetry.traces import Traces
from audit.seals.sealer import Sealer
from commands.agent_commands import AgentCommands
from commands.agent_definitions import AgentDefinitions
from commands.clearing import Clearing
from commands.commands import Commands
from commands.conversation_starts import ConversationStarts, CountLive
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from eventlog.background import cancel_and_wait
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from eventlog.feeds.broadcast import Broadcast
from eventlog.image_store import ImageStore
from eventlog.log import Log
from eventlog.log_search import LogSearch
from eventlog.opening import OpenLog, open_log
from eventlog.writer import Appender
from projections.as_of.past_reads import PastReads
from projections.catalog import PROJECTIONS, prepare
from projections.engine import Engine
from projections.models.agent_listing import AgentListing
from projections.models.context import Context
from projections.models.history import History
from projections.models.listing import Listing
from projections.models.waits import Waits
from projections.progress import Progress
from projections.rebuild.jobs import RebuildJobs
from turns.cancels import Cancels
from turns.client_turns import ClientTurns
from turns.context_budget import ContextBudget
from turns.event_feeds import EventFeeds
from turns.frames.delta_buffer import FlushClock
from turns.frames.replay import TurnReader
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelObserver, ModelTimeouts
from turns.model_input import ModelInput
from turns.model_run import RunServices
from turns.queue import TurnQueue
from turns.turn_runner import TurnRunner
from turns.turn_streams import TurnStreams
from turns.turns import Turns
from turns.upkeep.leases import Leases
from turns.upkeep.recovery import Recovery
from turns.upkeep.tool_deadlines import ToolDeadlines

StoreCondition = Literal["unreachable", "starting", "restarting", "stopped"]
"""The condition of a database that does not answer."""

T = TypeVar("T")

# Python's garbage collector runs after 700 new objects by default. Here that takes a twentieth of the processor time of
# a message, and frees next to nothing.
GC_THRESHOLD_OBJECTS = 20_000
COUNT_WAIT_S = 2.0
"""How long a start with a limited agent waits for the listing to catch up."""
CLEARING_WAIT_S = 2.0
"""How long the deletion of many conversations waits for the read models to catch up."""


@dataclass(frozen=True)
class Services:
    """The services that routes use, and those that `open_services` opens."""

    settings: Settings
    store_condition: Callable[[], StoreCondition]
    meters: Meters
    sampling: Sampling
    gateway: ModelGateway
    authenticator: Authenticator
    audit_reads: AuditReads
    database: Database
    log: Log
    log_search: LogSearch
    images: ImageStore
    commands: Commands
    agents: AgentDefinitions
    agent_commands: AgentCommands
    agent_listing: AgentListing
    clearing: Clearing
    progress: Progress
    engine: Engine
    sealer: Sealer
    rebuilds: RebuildJobs
    listing: Listing
    history: History
    past: PastReads
    reader: TurnReader
    model_input: ModelInput
    leases: Leases
    recovery: Recovery
    tool_deadlines: ToolDeadlines
    turns: Turns
    cancels: Cancels
    streams: TurnStreams
    client_turns: ClientTurns
    feeds: EventFeeds
    request_limit: RequestLimit | None
    stream_limit: StreamLimit | None

    async def drain(self, grace_s: float) -> None:
        """Refuse new turns, give running ones `grace_s` seconds, and end live streams."""
        self.clearing.close()
        await self.turns.drain(grace_s)
        self.feeds.close()
        self.streams.close()


@asynccontextmanager
async def open_services(
    settings: Settings,
    conninfo: str,
    store_condition: Callable[[], StoreCondition] = lambda: "unreachable",
    meters: Meters | None = None,
    traces: Traces | None = None,
) -> AsyncGenerator[Services]:
    """Bring the log up to date, and open it with all services.

    `store_condition` is called in a thread while the database does not answer. `meters` count what happens, and
    `traces` follow it, if they are given.
    At the end of the block, running turns are ended and everything is closed in reverse order.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    meters = meters or Meters(settings.model)
    async with AsyncExitStack() as stack:
        with translated_errors():
            await asyncio.to_thread(prepare, conninfo, settings.log_schema)
        log = open_log(conninfo, settings.log_schema, listening=False, on_batch=meters.batch)
        opened = await stack.enter_async_context(log)
        broadcast = Broadcast(opened.feed)
        await _open(stack, broadcast)
        await opened.feed.refresh()  # so that a subscriber begins with the next event, and not with the first
        writer = traces.writer(opened.writer) if traces else opened.writer
        executor = CommandExecutor(opened.log, writer)
        stack.push_async_callback(executor.close)
        tokenizer = Tokenizer()
        gateway = _model_gateway(settings, traces.model_observer(meters) if traces else meters)
        stack.push_async_callback(gateway.aclose)
        authenticator = _open_authenticator(stack, settings, meters, opened.database)
        services = _build_services(
            settings, store_condition, meters, authenticator, opened, broadcast, writer, executor, tokenizer, gateway
        )
        opened.database.on_new_generation(services.client_turns.forget)
        opened.feed.on_rewind(lambda _: services.streams.restart())
        # The channels open once every handler is registered, so that no notification is missed.
        await _open(stack, opened.channels)
        optional = (services.request_limit, services.stream_limit)
        for service in (services.engine, services.sealer, services.sampling, services.tool_deadlines, *optional):
            if service is not None:
                await _open(stack, service)
        await services.leases.open(services.recovery.recover)
        stack.push_async_callback(services.leases.close)
        stack.push_async_callback(services.turns.drain, 0)
        stack.push_async_callback(cancel_and_wait, [asyncio.create_task(_warm_up(tokenizer, gateway), name="warm-up")])
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
    store_condition: Callable[[], StoreCondition],
    meters: Meters,
    authenticator: Authenticator,
    opened: OpenLog,
    broadcast: Broadcast,
    writer: Appender,
    executor: CommandExecutor,
    tokenizer: Tokenizer,
    gateway: ModelGateway,
) -> Services:
    """Build the services in the order in which they need each other. None is opened."""
    database, log, images = opened.database, opened.log, opened.images
    progress = Progress(projection.name for projection in PROJECTIONS)
    listing, agents = Listing(database), AgentDefinitions(log, settings.tool_results_timeout_s)
    starts = ConversationStarts(executor, agents, _count_live(listing, progress))
    commands = Commands(executor, tokenizer, images, starts)
    reader = TurnReader(log, tokenizer, images)
    budget = ContextBudget(gateway, settings.max_context_tokens)
    model_input = ModelInput(log, agents, Context(database, log), progress, budget)
    leases = Leases(database, settings.limit_running_turns)
    run_services = RunServices(executor, tokenizer, progress, reader, FlushClock())
    runner = TurnRunner(run_services, gateway, model_input, broadcast, leases)
    queue = TurnQueue(log, broadcast, leases)
    cancels = Cancels(executor, reader, runner, opened.channels, broadcast)
    turns = Turns(commands, reader, runner, queue, cancels, leases)
    queue.open(turns.start_queued)
    streams = TurnStreams(runner, queue, reader, broadcast, progress)
    return Services(
        settings=settings,
        store_condition=store_condition,
        meters=meters,
        sampling=Sampling(meters, database, turns),
        gateway=gateway,
        authenticator=authenticator,
        audit_reads=AuditReads(writer),
        database=database,
        log=log,
        log_search=LogSearch(database),
        images=images,
        commands=commands,
        agents=agents,
        agent_commands=AgentCommands(log, writer),
        agent_listing=AgentListing(database),
        clearing=Clearing(commands, lambda position: progress.wait(position, CLEARING_WAIT_S)),
        progress=progress,
        engine=Engine(database, opened.feed, opened.channels, progress, PROJECTIONS),
        sealer=Sealer(database, opened.feed),
        rebuilds=RebuildJobs(database, set_up_process=log_configuration(settings)),
        listing=listing,
        history=History(database),
        past=PastReads(database, log),
        reader=reader,
        model_input=model_input,
        leases=leases,
        recovery=Recovery(executor, reader, queue, meters.recovered),
        tool_deadlines=ToolDeadlines(Waits(database), executor),
        turns=turns,
        cancels=cancels,
        streams=streams,
        client_turns=ClientTurns(executor, tokenizer, reader, leases),
        feeds=EventFeeds(executor, opened.feed, streams),
        request_limit=_limit(RequestLimit, database, settings.limit_requests_per_minute),
        stream_limit=_limit(StreamLimit, database, settings.limit_open_streams),
    )


def _count_live(listing: Listing, progress: Progress) -> CountLive:
    async def count(position: int, owner_id: str, agent_id: str, at_most: int) -> int:
        if not await progress.wait_for("listing", position, COUNT_WAIT_S):
            raise StoreUnavailableError("The conversations of the agent cannot be counted now.")
        return await listing.count_live(owner_id, agent_id, at_most)

    return count


def _limit(kind: Callable[[Database, int], T], database: Database, at_most: int | None) -> T | None:
    return None if at_most is None else kind(database, at_most)


def _open_authenticator(stack: AsyncExitStack, settings: Settings, meters: Meters, database: Database) -> Authenticator:
    if settings.auth == "keys":
        return open_keys(stack, database)
    if settings.auth == "none":
        return by_tokens(database, None, settings.auth)
    # Without JSON Web Tokens, a process saves the time and the memory of their libraries.
    from api.auth.json_web_tokens import TokenRules
    from api.auth.jwt_authenticator import open_jwt

    return open_jwt(
        stack,
        database,
        TokenRules(settings.jwt_issuer, settings.jwt_audience, settings.jwt_owner_claim, settings.jwt_role_claim),
        jwks_url=settings.jwt_jwks_url,
        public_pem=settings.jwt_public_key,
        secret=settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
        on_key_set_failure=meters.key_set_failed,
    )


async def _warm_up(tokenizer: Tokenizer, gateway: ModelGateway) -> None:
    """Load the tokenizer and the model library before the first request needs them."""
    await asyncio.to_thread(tokenizer.load)
    await gateway.warm_up()
    # All that is loaded now stays loaded. Frozen, litellm's million objects are not scanned again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS)


def _model_gateway(settings: Settings, observer: ModelObserver) -> ModelGateway:
    timeouts = ModelTimeouts(
        first_token_s=settings.model_first_token_timeout_s,
        between_tokens_s=settings.model_between_tokens_timeout_s,
        total_s=settings.model_total_timeout_s,
    )
    return ModelGateway(
        api_base=settings.model_api_base, api_key=settings.model_api_key, timeouts=timeouts, observer=observer
    )
