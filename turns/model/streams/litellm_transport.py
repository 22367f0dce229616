"""The HTTP connections to providers: litellm makes the requests, and the bytes of the answers are ours.

litellm takes clients in two documented ways: `litellm.aclient_session` sends the requests that it makes through the
OpenAI library, and the argument `client` those that it makes itself. Both lead to the call under way here, and from it
to the connections of its gateway. So what litellm keeps for the whole process owns no connection of any event loop.

Imported together with litellm, in a thread.
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
_USAGE_REFUSED: Final = re.compile(
    rb"stream.?options|include_usage|(extra|additional) (inputs?|fields?|propert)"
    rb"|(unknown|unrecognized|unexpected|unsupported)[^.]{0,20} (field|parameter|argument|key)",
    re.IGNORECASE,
)
"""What servers say that refuse a parameter, by name or without."""

_OF_THE_BODY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_NOTHING_SAID: Final = b"data: %b\n\n" % DONE

_current: ContextVar["ProviderCall | None"] = ContextVar("provider_call", default=None)


class ProviderConnections:
    """The connections of one gateway, with litellm's settings for proxies and TLS, on the event loop that uses them."""

    def __init__(self) -> None:
        """Nothing is connected yet."""
        self._handler = AsyncHTTPHandler()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return the head of the response; whoever gets it closes it."""
        return await self._handler.client.send(request, stream=True)

    async def aclose(self) -> None:
        """Close the connections, and no others."""
        await self._handler.close()


class ProviderCall:
    """One attempt at a call; `answer` is the provider's response where it streams a chat in OpenAI's shape."""

    def __init__(self, connections: ProviderConnections) -> None:
        """The call goes over these connections."""
        self._connections = connections
        self.answer: httpx.Response | None = None

    @contextmanager
    def active(self) -> Generator[None]:
        """Take all requests of this context for requests of this call."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return what litellm is to see of the response: of an answer that is read here, its end."""
        chat = await _streamed_chat(request)
        response = await self._connections.send(request)
        if chat is not None and "stream_options" in chat and await _refuses_usage(response):
            response = await self._connections.send(_without_usage(request, chat))
        if not response.is_success:
            return response
        if chat is not None and not _is_binary(response):
            await self.aclose()
            self.answer = response
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=_NOTHING_SAID)
        return _readable_by_line(response)

    async def aclose(self) -> None:
        """Close the answer."""
        if self.answer is not None:
            await self.answer.aclose()


class _ToCurrentCall(httpx.AsyncBaseTransport):
    """Leads each request to the call it is part of; requests of others in this process get connections of their own."""

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
        return _with_body(response, _Owning(response, connections))


class _Owning(httpx.AsyncByteStream):
    """A body whose end closes the connections it came over."""

    def __init__(self, response: httpx.Response, connections: ProviderConnections) -> None:
        self._response = response
        self._connections = connections

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()
        await self._connections.aclose()


class _Events(httpx.AsyncByteStream):
    """A stream of events, each written so that litellm takes no character of it for the end of a line."""

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


class _Lines(httpx.AsyncByteStream):
    """Lines of JSON, each written so that litellm takes no character of it for the end of a line."""

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


SESSION: Final = httpx.AsyncClient(transport=_ToCurrentCall(), follow_redirects=True, trust_env=False)
"""For `litellm.aclient_session`."""

HANDLER: Final = AsyncHTTPHandler(transport=_ToCurrentCall())
"""For the argument `client` of a provider that litellm asks by itself."""


async def _streamed_chat(request: httpx.Request) -> dict[str, object] | None:
    """Return the body of a request for a streamed chat in OpenAI's shape, None of any other."""
    if request.method != "POST" or not request.url.path.endswith(_CHAT_PATH):
        return None
    try:
        body: object = json.loads(await request.aread())
    except ValueError:
        return None
    chat = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    return chat if chat.get("stream") is True and "messages" in chat else None


async def _refuses_usage(response: httpx.Response) -> bool:
    """Return whether a server does not take the wish for usage, which is not worth an answer."""
    if not response.is_error:
        return False
    return _USAGE_REFUSED.search(await response.aread()) is not None


def _without_usage(request: httpx.Request, chat: dict[str, object]) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.multi_items() if name not in _OF_THE_BODY]
    body = json.dumps({name: value for name, value in chat.items() if name != "stream_options"}).encode()
    return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _is_binary(response: httpx.Response) -> bool:
    return "amazon.eventstream" in _content_type(response)


def _readable_by_line(response: httpx.Response) -> httpx.Response:
    kind = _content_type(response)
    if "text/event-stream" in kind:
        return _with_body(response, _Events(response))
    if "ndjson" in kind or "jsonl" in kind:
        return _with_body(response, _Lines(response))
    return response


def _with_body(response: httpx.Response, body: httpx.AsyncByteStream) -> httpx.Response:
    """Return the same response with a body that is decoded already."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_BODY]
    return httpx.Response(response.status_code, headers=headers, stream=body, extensions=response.extensions)


def _content_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").lower()
