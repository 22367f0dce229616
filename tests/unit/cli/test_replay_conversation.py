"""Playing scenes: their pauses, their speed, and where playing begins."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from cli.reading.playback import Piece, Scene
from cli.reading.replay_conversation import Pace, Start, play, spoken
from cli.reading.transcript import Transcript
from eventlog.log import AsOf
from tests.support.histories.builders import BEGINNING

# second, idle, text
SCENES = [(0.0, True, "a"), (2.0, True, "b"), (12.5, False, "c"), (12.5, False, "d"), (3612.5, True, "e")]
LATER = "… 1 h later"


class Stage:
    """Plays scenes without waiting, and notes the pauses among the texts."""

    def __init__(self) -> None:
        self.seen: list[str | float] = []

    async def play(self, pace: Pace, start: Start) -> list[str | float]:
        transcript = Transcript(lambda text: self.seen.append(text.strip()), lambda: None, colours=False)
        await play(self._scenes(), transcript, pace, start, self._sleep)
        return self.seen

    async def _scenes(self) -> AsyncIterator[Scene]:
        for position, (second, idle, text) in enumerate(SCENES, 1):
            at = BEGINNING + timedelta(seconds=second)
            yield Scene(position, at, idle, (Piece(text, whole=True),))

    async def _sleep(self, seconds: float) -> None:
        self.seen.append(seconds)


async def test_pauses_are_real_and_those_between_turns_are_cut_and_shown() -> None:
    assert await Stage().play(Pace(), Start(None)) == ["a", 2.0, "b", 10.5, "c", "d", LATER, 3.0, "e"]


async def test_the_speed_divides_the_pauses() -> None:
    assert await Stage().play(Pace(speed=2.0), Start(None)) == ["a", 1.0, "b", 5.25, "c", "d", LATER, 1.5, "e"]
    assert await Stage().play(Pace(speed=0.5), Start(None)) == ["a", 4.0, "b", 21.0, "c", "d", LATER, 6.0, "e"]


async def test_the_longest_pause_holds_inside_turns_too() -> None:
    played = await Stage().play(Pace(max_pause_s=1.0), Start(None))
    assert played == ["a", "… 2 s later", 1.0, "b", 1.0, "c", "d", LATER, 1.0, "e"]
    played = await Stage().play(Pace(max_pause_s=100_000.0), Start(None))
    assert played == ["a", 2.0, "b", 10.5, "c", "d", 3600.0, "e"]


@pytest.mark.parametrize(
    "start",
    [3, BEGINNING + timedelta(seconds=12.5), BEGINNING + timedelta(seconds=5), timedelta(seconds=10)],
    ids=["position", "time", "time between", "offset"],
)
async def test_everything_before_the_start_is_shown_at_once(start: AsOf | timedelta) -> None:
    assert await Stage().play(Pace(), Start(start)) == ["a", "b", "c", "d", LATER, 3.0, "e"]


async def test_a_start_at_the_begin_plays_everything() -> None:
    assert await Stage().play(Pace(), Start(timedelta())) == await Stage().play(Pace(), Start(1))
    assert await Stage().play(Pace(), Start(1)) == await Stage().play(Pace(), Start(None))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (7980, "2 h 13 min"), (90_061, "1 d 1 h")],
)
def test_a_duration_is_spoken_in_its_two_largest_units(seconds: float, expected: str) -> None:
    assert spoken(seconds) == expected
