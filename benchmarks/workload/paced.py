"""Rounds of requests at a fixed rate, with their time and their processor time."""

from collections.abc import Sequence

from benchmarks.workload.serving import Server

REQUESTS_A_SECOND = 1200

Groups = Sequence[tuple[bytes, ...]]


class Paced:
    """Rounds at a fixed rate: the p99 and the server's processor time per request."""

    def __init__(self, server: Server, groups: Groups, per_second: float = REQUESTS_A_SECOND) -> None:
        self._server = server
        self._groups = groups
        self._per_second = per_second
        self.p99_ms: list[float] = []
        self.cpu_us: list[float] = []

    async def work(self, seconds: float) -> float:
        """Run a round and return its p99."""
        before = self._server.process.cpu_s()
        served = await self._server.load(self._groups, seconds, self._per_second)
        used = self._server.process.cpu_s() - before
        self.cpu_us.append(used * 1_000_000 / served.answers)
        self.p99_ms.append(served.p99_ms)
        return served.p99_ms

    def drop_warm_up(self) -> None:
        """Drop the first round."""
        for figures in (self.p99_ms, self.cpu_us):
            del figures[0]
