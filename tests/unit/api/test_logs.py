"""The rendering of logs, in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

SCRIPT = """
import asyncio, logging, os, warnings
from structlog.contextvars import bind_contextvars
from api.settings import load_settings
from api.telemetry.access_log import open_access_log
from api.telemetry.logs import configure_logs, log_loop_errors
from eventlog.errors import StoreUnavailableError

secret = os.environ["EXAMPLE_SECRET"]  # no line of this script, which a traceback may show, holds it
configure_logs(load_settings())
log = logging.getLogger("turns.example")

async def work():
    log.warning("in a task, %s of %s", ValueError(secret), StoreUnavailableError("It is away."),
                extra={"position": 7, "content": secret})

async def main():
    log_loop_errors(asyncio.get_running_loop())
    bind_contextvars(request_id="req-1", owner="alice")
    await asyncio.create_task(work(), name="example")
    error = asyncio.get_running_loop().create_future()
    error.set_exception(ValueError(secret))
    del error

asyncio.run(main())
log.debug("at debug")
log.info("at info")
logging.getLogger("httpx").info(secret + " of another library")
logging.getLogger("psycopg.pool").info(secret + " of another library")
logging.getLogger("botocore").debug(secret + " of another library")
logging.getLogger("uvicorn.error").error("of uvicorn")
logging.getLogger("psycopg.pool").warning("of the pool")
warnings.warn(secret)
log.error("cannot be written: %d", secret)
try:
    raise KeyError(secret)
except KeyError:
    log.exception("failed")
print(open_access_log() is not None)
"""


@cache
def written(**settings: str) -> tuple[str, str]:
    """Return what the script writes to stderr, and to stdout."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    environment: Mapping[str, str] = {**others, "EXAMPLE_SECRET": "s3cret", **settings}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
    assert "s3cret" not in done.stderr
    return done.stderr, done.stdout.strip()


def lines(**settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(**settings)[0].splitlines()]


def test_logs_that_are_not_on_a_terminal_are_json_from_the_level_info() -> None:
    stderr, has_access_log = written()
    found = [json.loads(line) for line in stderr.splitlines()]
    assert has_access_log == "True"
    assert [line["event"] for line in found if line["level"] in {"info", "debug"}] == ["at info"]
    assert all(list(line)[:2] == ["timestamp", "level"] for line in found)


def test_a_line_has_the_context_of_its_request_and_the_name_of_its_task() -> None:
    (line,) = [line for line in lines() if line.get("task") == "example"]
    assert line["event"] == "in a task, ValueError of StoreUnavailableError: It is away."
    expected = {"logger": "turns.example", "request_id": "req-1", "owner": "alice", "position": 7, "level": "warning"}
    assert expected.items() <= line.items()
    assert "content" not in line


def test_other_loggers_and_warnings_have_the_same_form() -> None:
    found = {line["logger"]: line for line in lines()}
    assert found["uvicorn.error"]["event"] == "of uvicorn"
    assert found["psycopg.pool"]["event"] == "of the pool"
    assert found["api.telemetry.logs"]["event"].startswith("UserWarning at ")
    assert found["asyncio"]["event"] == "Future exception was never retrieved"
    assert {"httpx", "botocore"}.isdisjoint(found)


def test_an_exception_is_shown_by_its_type_and_place() -> None:
    (line,) = [line for line in lines() if line["event"] == "failed"]
    assert line["exception"].startswith("Traceback (most recent call last):")
    assert line["exception"].endswith("KeyError")


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", {"debug", "info", "warning", "error"}),
        ("info", {"info", "warning", "error"}),
        ("warning", {"warning", "error"}),
        ("error", {"error"}),
    ],
)
def test_the_level_is_that_of_the_settings(level: str, levels: set[str]) -> None:
    found = lines(TURNLOG_LOG_LEVEL=level)
    assert {line["level"] for line in found} == levels


def test_text_is_for_people_and_begins_at_warnings() -> None:
    stderr, has_access_log = written(TURNLOG_LOG_FORMAT="text")
    assert has_access_log == "False"
    assert "at info" not in stderr
    assert "of uvicorn" in stderr
    assert "\033" not in stderr  # colours are for terminals
    assert not stderr.startswith("{")
