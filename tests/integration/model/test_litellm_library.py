"""The gateway loads litellm late, once, in a thread and without the network."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Event

import pytest

from tests.support.waiting import PATIENCE_S, eventually
from turns.model import litellm_library
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelRequest, ModelTimeouts

REQUEST = ModelRequest(model="turnlog/demo", messages=[{"role": "user", "content": "Hello"}])

FIRST_USE = """
import asyncio, os, socket, sys, threading

attempts = []
def refuse(*arguments, **_):
    attempts.append(arguments)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "TIKTOKEN_CACHE_DIR"):
    os.environ.pop(name, None)

from turns.model import litellm_library
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelRequest, ModelTimeouts

assert "litellm" not in sys.modules, "litellm was imported at import time"
loads = []
load = litellm_library.load_litellm
def counted(tokenizer):
    loads.append(threading.current_thread())
    return load(tokenizer)
litellm_library.load_litellm = counted

async def turns_of_the_loop(done):
    turns = 0
    while not done.is_set():
        await asyncio.sleep(0.005)
        turns += 1
    return turns

async def use(models):
    request = ModelRequest(model="turnlog/demo", messages=[{"role": "user", "content": "Hello"}])
    return [item async for item in models.stream(request)]

async def main():
    models = ModelGateway(api_base=None, api_key=None, timeouts=ModelTimeouts())
    done = asyncio.Event()
    turns = asyncio.create_task(turns_of_the_loop(done))
    await asyncio.gather(models.warm_up(), use(models), use(models), models.context_window("gpt-4o"))
    done.set()
    assert len(loads) == 1, loads
    assert loads[0] is not threading.main_thread()
    assert await turns > 50, f"the event loop made {await turns} turns while litellm loaded"
    await models.aclose()

asyncio.run(main())
assert not attempts, attempts
"""


def test_litellm_is_loaded_once_at_first_use_in_a_thread_and_without_the_network() -> None:
    command = [sys.executable, "-W", "error", "-c", FIRST_USE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_a_failed_load_is_logged_and_retried_at_the_next_use(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise ImportError("no litellm here")

    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=ModelTimeouts())) as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(litellm_library, "load_litellm", broken)
            await gateway.warm_up()
            assert "the model library is not ready" in caplog.text
            with pytest.raises(ModelError, match="model_unavailable"):
                await anext(gateway.stream(REQUEST))
        assert await gateway.context_window("gpt-4o") == 128_000


def test_a_gateway_and_its_event_loop_can_be_closed_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, finish = Event(), Event()

    def load(_: object) -> None:
        begun.set()
        finish.wait()
        raise ImportError("no litellm here")

    async def use() -> None:
        gateway = ModelGateway(api_base=None, api_key=None, timeouts=ModelTimeouts())
        warming = asyncio.create_task(gateway.warm_up())
        await asyncio.to_thread(begun.wait)
        await gateway.aclose()
        with pytest.raises(asyncio.CancelledError):
            await warming

    monkeypatch.setattr(litellm_library, "load_litellm", load)
    with ThreadPoolExecutor(1) as threads:
        try:
            threads.submit(asyncio.run, use()).result(PATIENCE_S)
            assert litellm_library.is_loading()
        finally:
            finish.set()
    eventually(lambda: not litellm_library.is_loading())
