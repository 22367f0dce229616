"""English-like text of common and rare words, the same in every run."""

from pathlib import Path
from random import Random
from typing import NamedTuple

QUESTION_CHARACTERS = 200
ANSWER_CHARACTERS = 800
VARIANTS = 200

_WORDS = Path(__file__).with_name("words.txt").read_text().split()


class Turn(NamedTuple):
    """The texts of one turn."""

    question: str
    answer: str


def turns(count: int = VARIANTS) -> list[Turn]:
    """Return turns of 200 and 800 characters, all different."""
    random = Random(count)
    return [Turn(english(random, QUESTION_CHARACTERS), english(random, ANSWER_CHARACTERS)) for _ in range(count)]


def english(random: Random, characters: int) -> str:
    """Return sentences of exactly `characters` characters."""
    text = ""
    while len(text) < characters:
        text += _sentence(random)
    return text[: characters - 1] + "."


def _sentence(random: Random) -> str:
    words = [random.choice(_WORDS) for _ in range(random.randint(5, 16))]
    if len(words) > 9:
        words[4] += ","
    if random.random() < 0.1:
        words.append(str(random.randint(2, 5000)))
    return " ".join(words).capitalize() + ". "
