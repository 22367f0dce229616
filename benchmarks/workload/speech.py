"""Models that speak in many streams at once, and what of it arrived while all of them spoke."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from benchmarks.workload.load import post
from benchmarks.workload.model_server import Script, now_us
from benchmarks.workload.serving import Server
from benchmarks.workload.stream_load import Stream

CHUNKS_A_SECOND = 30
SETTLE_S = 0.5
START_S, START_OF_ONE_S = 1.0, 0.04


class Speech(NamedTuple):
    """Streams asked for at once that begin to speak together, once the server has had the time to start them all."""

    streams: Sequence[Stream]
    from_us: int
    to_us: int

    @property
    def per_second(self) -> float:
        """Return the chunks a second that arrived."""
        return sum(1 for _ in self._chunks()) * 1_000_000 / (self.to_us - self.from_us)

    def delay_ms(self, part: float) -> float:
        """Return a quantile of the time from a chunk's sending by the model to its arrival."""
        return quantile([(arrived - sent) / 1000 for sent, arrived in self._chunks()], part)

    def arrivals(self) -> dict[int, int]:
        """Return when each chunk arrived, by when it was sent."""
        return dict(self._chunks())

    def _chunks(self) -> Iterator[tuple[int, int]]:
        for stream in self.streams:
            for sent, arrived in zip(stream.sent_us, stream.arrived_us, strict=True):
                if self.from_us <= arrived < self.to_us:
                    yield sent, arrived


def coming_script(seconds: float, streams: int, rate: float = CHUNKS_A_SECOND) -> Script:
    """Return a script that begins when a server has had the time to start so many streams."""
    lead_s = START_S + START_OF_ONE_S * streams
    return Script(rate, now_us() + int(lead_s * 1_000_000), SETTLE_S + seconds)


def question(path: str, script: Script) -> bytes:
    """Return the request of a stream, in words that Turnlog and the passthrough understand."""
    body = {"content": "Tell me what time it is.", "model": script.model}
    return post(path, orjson.dumps({**body, "stream": True} if path == "/v1/turns" else body))


async def listen(server: Server, path: str, script: Script, streams: int, *, to_the_end: bool = True) -> Speech:
    """Ask for streams and read them; who does not listen to the end leaves when the model has said all."""
    ends_us = script.begins_us + int(script.seconds * 1_000_000)
    read = await server.read([question(path, script)] * streams, None if to_the_end else ends_us)
    return Speech(read, script.begins_us + int(SETTLE_S * 1_000_000), ends_us)


def quantile(figures: list[float], part: float) -> float:
    """Return the figure under which such a part of them lies."""
    return sorted(figures)[int(len(figures) * part)]
