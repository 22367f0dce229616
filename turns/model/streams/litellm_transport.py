"""The HTTP transport for litellm: sends its requests and keeps the answers.

litellm accepts clients in two documented ways. `litellm.aclient_session` sends the requests that go through the OpenAI
library. The argument `client` sends the others. Both lead to the current call here, and from it to the connections of
its gateway. So the clients that litellm keeps for the whole process own no connection of any event loop.

This module imports litellm at the top, so `litellm_library` imports it in a thread.
"""

import json
import re
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, cast

import httpx
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from turns.model.streams.sse_parser import DONE, EventParser, event_bytes, without_unusual_line_ends

_CHAT_PATH: Final = "/chat/completions"
_REFUSES_PARAMETER: Final = re.compile(
    rb"stream.?options|include_usage|(extra|additional) (inputs?|fields?|propert)"
    rb"|(unknown|unrecognized|unexpected|unsupported)[^.]{0,20} (field|parameter|argument|key)",
    re.IGNORECASE,
)
"""The messages of servers that refuse a parameter, with or without its name."""

_BODY_HEADERS: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_EMPTY_STREAM: Final = b"data: %b\n\n" % DONE

_current: ContextVar["ProviderCall | None"] = ContextVar("provider_call", default=None)


class ProviderConnections:
    """The connections of one gateway and event loop, made when a request needs them.

    They have litellm's settings for proxies and TLS.
    """

    def __init__(self) -> None:
        self._handler = AsyncHTTPHandler()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return a response whose body has not been read. The caller closes it."""
        return await self._handler.client.send(request, stream=True)

    async def aclose(self) -> None:
        """Close the connections, and no others."""
        await self._handler.close()


class ProviderCall:
    """One attempt at a call, whose requests use `connections`.

    `answer` is the provider's response if it streams a chat in OpenAI's shape.
    """

    def __init__(self, connections: ProviderConnections) -> None:
        self._connections = connections
        self.answer: httpx.Response | None = None

    @contextmanager
    def active(self) -> Generator[None]:
        """Make this the call that the requests of the current context belong to."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return the response for litellm: an empty stream if `answer` is read here."""
        chat = await _streamed_chat(request)
        response = await self._connections.send(request)
        if chat is not None and "stream_options" in chat and await _refuses_usage(response):
            response = await self._connections.send(_without_usage(request, chat))
        if not response.is_success:
            return response
        if chat is not None and not _is_binary(response):
            await self.aclose()
            self.answer = response
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=_EMPTY_STREAM)
        return _readable_by_line(response)

    async def aclose(self) -> None:
        """Close the answer."""
        if self.answer is not None:
            await self.answer.aclose()


class _CallTransport(httpx.AsyncBaseTransport):
    """Sends each request through the call that it belongs to.

    Requests of other code in this process get connections of their own.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = _current.get()
        if call is not None:
            return await call.send(request)
        connections = ProviderConnections()
        try:
            response = await connections.send(request)
        except BaseException:
            await connections.aclose()
            raise
        return _with_body(response, _OwningBody(response, connections))


class _OwningBody(httpx.AsyncByteStream):
    """A body that closes its connections when it is closed."""

    def __init__(self, response: httpx.Response, connections: ProviderConnections) -> None:
        self._response = response
        self._connections = connections

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()
        await self._connections.aclose()


class _EventBody(httpx.AsyncByteStream):
    """A stream of events in which litellm mistakes no character for a line end."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parser = EventParser()
        async for piece in self._response.aiter_bytes():
            if events := parser.feed(piece):
                yield b"".join(map(event_bytes, events))
        yield b"".join(map(event_bytes, parser.end()))

    async def aclose(self) -> None:
        await self._response.aclose()


class _LineBody(httpx.AsyncByteStream):
    """Lines of JSON in which litellm mistakes no character for a line end."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""
        async for piece in self._response.aiter_bytes():
            lines, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield without_unusual_line_ends(lines) + newline
        yield without_unusual_line_ends(rest)

    async def aclose(self) -> None:
        await self._response.aclose()


SESSION: Final = httpx.AsyncClient(transport=_CallTransport(), follow_redirects=True, trust_env=False)
"""The client for `litellm.aclient_session`."""

HANDLER: Final = AsyncHTTPHandler(transport=_CallTransport())
"""The argument `client` for providers that litellm calls itself."""


async def _streamed_chat(request: httpx.Request) -> dict[str, object] | None:
    """Return the body of a request for a streamed chat in OpenAI's shape, else None."""
    if request.method != "POST" or not request.url.path.endswith(_CHAT_PATH):
        return None
    try:
        body: object = json.loads(await request.aread())
    except ValueError:
        return None
    chat = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    return chat if chat.get("stream") is True and "messages" in chat else None


async def _refuses_usage(response: httpx.Response) -> bool:
    """Return whether a server refused the request because of `stream_options`."""
    if not response.is_error:
        return False
    return _REFUSES_PARAMETER.search(await response.aread()) is not None


def _without_usage(request: httpx.Request, chat: dict[str, object]) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.multi_items() if name not in _BODY_HEADERS]
    body = json.dumps({name: value for name, value in chat.items() if name != "stream_options"}).encode()
    return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _is_binary(response: httpx.Response) -> bool:
    return "amazon.eventstream" in _content_type(response)


def _readable_by_line(response: httpx.Response) -> httpx.Response:
    kind = _content_type(response)
    if "text/event-stream" in kind:
        return _with_body(response, _EventBody(response))
    if "ndjson" in kind or "jsonl" in kind:
        return _with_body(response, _LineBody(response))
    return response


def _with_body(response: httpx.Response, body: httpx.AsyncByteStream) -> httpx.Response:
    """Return the same response with another body, which is already decoded."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _BODY_HEADERS]
    return httpx.Response(response.status_code, headers=headers, stream=body, extensions=response.extensions)


def _content_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").lower()
