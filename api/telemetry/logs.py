"""The logs of a serving process, on stderr as JSON lines or as text for people.

The loggers of all packages are the standard library's. structlog renders them
(https://www.structlog.org/en/stable/standard-library.html#rendering-using-structlog-based-formatters-within-logging).
"""

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from api.settings import Settings
from api.telemetry.safe_errors import describe, describe_with_traceback

_OURS = ("domain", "postgres", "eventlog", "commands", "projections", "turns", "audit", "api", "cli")
_EXTRA = ("conversation_id", "model", "position", "projection", "turn_id")
_OWN_TASK_PREFIX = "Task-"  # asyncio's names of tasks that have none

_timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
_log = logging.getLogger(__name__)


def configure_logs(settings: Settings) -> None:
    """Send the logs of this process to stderr, as the settings say."""
    stream = sys.stderr
    as_json = settings.log_format == "json" if settings.log_format else not stream.isatty()
    level = getattr(logging, (settings.log_level or ("info" if as_json else "warning")).upper())
    renderer: Processor = _render_json if as_json else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    _configure_standard_loggers(stream, renderer, level)
    _configure_structlog(stream, renderer, level)
    warnings.showwarning = _show_warning
    logging.raiseExceptions = False  # it would print the arguments of a line that cannot be written


def log_configuration(settings: Settings) -> Callable[[], None] | None:
    """Return a picklable function that configures another process like this one.

    Return None if the logs of this process are not configured.
    """
    return partial(configure_logs, settings) if structlog.is_configured() else None


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log what the event loop itself reports, without the objects that it names."""

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # The default handler prints tasks and futures, and with them results and errors.
        logging.getLogger("asyncio").error(context["message"], exc_info=context.get("exception"))

    loop.set_exception_handler(report)


def _configure_standard_loggers(stream: TextIO, renderer: Processor, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(renderer))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Other libraries may write requests and prompts at lower levels.
    for logger in (root, logging.getLogger("psycopg")):  # psycopg sets a level of its own
        logger.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def _configure_structlog(stream: TextIO, renderer: Processor, level: int) -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, _timestamp, _to_plain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders the standard library's records, and errors as far as is safe."""

    def __init__(self, renderer: Processor) -> None:
        super().__init__(
            processors=[self.remove_processors_meta, _to_plain, renderer],
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(allow=_EXTRA),
                _timestamp,
                _add_task,
                _add_exception,
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        if isinstance(record.args, tuple) and any(isinstance(each, BaseException) for each in record.args):
            record = logging.makeLogRecord(vars(record))  # other handlers get the record as it is
            assert isinstance(record.args, tuple)
            record.args = tuple(describe(each) if isinstance(each, BaseException) else each for each in record.args)
        return super().format(record)


def _add_task(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the name of the background task that logs, if it has one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return event
    if task is not None and not task.get_name().startswith(_OWN_TASK_PREFIX):
        event["task"] = task.get_name()
    return event


def _add_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.pop("exc_info", None)
    record: logging.LogRecord = event["_record"]
    if record.exc_info and (error := record.exc_info[1]) is not None:
        event["exception"] = describe_with_traceback(error)
    return event


def _to_plain(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Write ids as text, and put the time first."""
    conversation_id = event.get("conversation_id")
    if conversation_id is not None:
        event["conversation_id"] = str(conversation_id)
    return {"timestamp": event.pop("timestamp"), "level": event.pop("level"), **event}


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return orjson.dumps(event, default=str).decode()


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Log where a warning comes from. Its text may quote content."""
    _log.warning("%s at %s:%s", category.__name__, filename, lineno)
