"""FastAPI routes that forward a model's chunks and store nothing.

They show the cost of a stream without Turnlog. `python -m benchmarks.baselines.passthrough_app MODEL_URL` serves them
with the settings of `turnlog serve`, including those of litellm, and prints the port. `/litellm` reads the model
through litellm, as an application does. `/openai` reads the stream of the OpenAI library inside litellm.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.http.connection_tracking import ConnectionTracking
from cli.server import configure
from commands.tokens import Tokenizer
from turns.model.litellm_library import LiteLLM, load_litellm


class Question(BaseModel):
    """The body of a request."""

    content: str
    model: str


def create_passthrough_app(model_url: str) -> FastAPI:
    """Return an application of two routes, `POST /litellm` and `POST /openai`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.litellm = await asyncio.to_thread(load_litellm, Tokenizer())
        gc.collect()
        gc.freeze()
        yield

    app = FastAPI(lifespan=lifespan)

    async def ask(question: Question) -> Any:
        litellm: LiteLLM = app.state.litellm
        messages = [{"role": "user", "content": question.content}]
        model = {"model": f"openai/{question.model}", "api_base": model_url, "api_key": "none"}
        return await litellm.acompletion(**model, messages=messages, stream=True, max_retries=0)

    @app.post("/litellm")
    async def through_litellm(question: Question) -> StreamingResponse:
        return StreamingResponse(_frames(await ask(question)), media_type="text/event-stream")

    @app.post("/openai")
    async def through_openai(question: Question) -> StreamingResponse:
        return StreamingResponse(_frames((await ask(question)).completion_stream), media_type="text/event-stream")

    assert through_litellm and through_openai
    return app


async def _frames(chunks: AsyncIterator[Any]) -> AsyncGenerator[bytes]:
    async for chunk in chunks:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            yield b"event: delta\ndata: %s\n\n" % orjson.dumps({"text": text})


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        print(f"ready at http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)


def main() -> None:
    """Serve until a signal arrives."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        _Server(configure(ConnectionTracking(create_passthrough_app(sys.argv[1])))).run(sockets=[listener])


if __name__ == "__main__":
    main()
