"""The salts of events, which keep their content from being guessed from its hash."""

from collections import OrderedDict
from hashlib import sha256
from os import urandom
from typing import NamedTuple
from uuid import UUID

from domain.events import StreamDelta
from eventlog.mapper import NewRow

SALT_BYTES = 16
MAX_RUNS = 10_000


class _Run(NamedTuple):
    """The salt of the first delta of a run, and the version of its last delta."""

    first: bytes
    last_version: int


class Salts:
    """Makes the salts of the rows that one process appends.

    A run of deltas, without another event of their conversation in between, needs one random salt: that of its first
    delta. The others are derived from it by `derived_salt`. So the run can be stored with one salt.
    """

    # A row holds its salt whether or not it is derived. So no reader depends on the derivation, and a process that
    # takes a turn over just begins another run.

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        self._max_runs = max_runs
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()

    def next(self, row: NewRow) -> bytes:
        """Return the salt of the next row of this process."""
        if row.type != StreamDelta.TOPIC:
            self._runs.pop(row.aggregate_id, None)
            return urandom(SALT_BYTES)
        run = self._runs.get(row.aggregate_id)
        # Another version means that another process has recorded events in between, such as the end of a turn. Salts
        # of the next turn must not follow from those of the last one, which may outlive them.
        if run is not None and row.version == run.last_version + 1:
            self._runs[row.aggregate_id] = run._replace(last_version=row.version)
            return derived_salt(run.first, row.version)
        salt = urandom(SALT_BYTES)
        self._runs[row.aggregate_id] = _Run(salt, row.version)
        if len(self._runs) > self._max_runs:
            self._runs.popitem(last=False)
        return salt


def derived_salt(first: bytes, version: int) -> bytes:
    """Return the salt of a later delta of a run that begins with `first`."""
    return sha256(first + version.to_bytes(4)).digest()[:SALT_BYTES]
