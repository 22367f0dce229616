"""Concurrent streams of models, and the chunks that arrived meanwhile."""

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


class ConcurrentStreams(NamedTuple):
    """Streams that were requested at once and begin to send at one time.

    They begin after the server has had the time to start all of them.
    """

    streams: Sequence[Stream]
    from_us: int
    to_us: int

    @property
    def per_second(self) -> float:
        """Return the chunks per second that arrived."""
        return sum(1 for _ in self._chunks()) * 1_000_000 / (self.to_us - self.from_us)

    def delay_ms(self, part: float) -> float:
        """Return a quantile of the time from sending to arrival of a chunk."""
        return quantile([(arrived - sent) / 1000 for sent, arrived in self._chunks()], part)

    def arrivals(self) -> dict[int, int]:
        """Return the arrival time of each chunk by its sending time."""
        return dict(self._chunks())

    def _chunks(self) -> Iterator[tuple[int, int]]:
        for stream in self.streams:
            for sent, arrived in zip(stream.sent_us, stream.arrived_us, strict=True):
                if self.from_us <= arrived < self.to_us:
                    yield sent, arrived


def upcoming_script(seconds: float, streams: int, rate: float = CHUNKS_A_SECOND) -> Script:
    """Return a script that begins after a server can start `streams` streams."""
    lead_s = START_S + START_OF_ONE_S * streams
    return Script(rate, now_us() + int(lead_s * 1_000_000), SETTLE_S + seconds)


def stream_request(path: str, script: Script) -> bytes:
    """Return the request of a stream, for Turnlog or for a passthrough."""
    body = {"content": "Tell me what time it is.", "model": script.model}
    return post(path, orjson.dumps({**body, "stream": True} if path == "/v1/turns" else body))


async def read_streams(
    server: Server, path: str, script: Script, streams: int, *, to_the_end: bool = True
) -> ConcurrentStreams:
    """Request streams and read them.

    Without `to_the_end` the readers leave when the model's script ends.
    """
    ends_us = script.begins_us + int(script.seconds * 1_000_000)
    read = await server.read([stream_request(path, script)] * streams, None if to_the_end else ends_us)
    return ConcurrentStreams(read, script.begins_us + int(SETTLE_S * 1_000_000), ends_us)


def quantile(figures: list[float], part: float) -> float:
    """Return the quantile `part` of the figures."""
    return sorted(figures)[int(len(figures) * part)]
