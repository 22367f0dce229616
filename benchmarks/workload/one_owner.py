"""A log of one owner with very many conversations."""

from collections.abc import Iterator
from random import Random

from benchmarks.workload.generator import GeneratedEvent, made_id
from benchmarks.workload.scripts import scripts

OWNER, ACTOR = "local", "user:local"
MESSAGES_OF_EACH = 10
TURNS_OF_LONG, TURNS_OF_SHORT = 40, 2
LONG_EVERY = 20
"""One of so many conversations is long. On average each has about ten messages."""
STEP_US = 10_000_000


def one_owners_events(messages: int, seed: int = 1) -> Iterator[GeneratedEvent]:
    """Yield the events of one owner's conversations, with about so many messages.

    One conversation follows the other, and each is active again at a random time.
    """
    random = Random(seed)
    all_scripts = scripts(random)
    for number in range(messages // MESSAGES_OF_EACH):
        at_us = number * STEP_US
        conversation_id, version = made_id(random, at_us), 0
        long = number % LONG_EVERY == 0
        turns = TURNS_OF_LONG if long else TURNS_OF_SHORT + number % 3
        chosen = [random.choice(all_scripts.beginnings), *random.choices(all_scripts.recorded, k=turns)]
        for script in chosen:
            ids = {name: made_id(random, at_us) for name in ("turn", "question", "answer")}
            ids |= {"owner": OWNER, "deleted": "", "asked": str(version + 1)}
            for step in script:
                at_us, version = at_us + step.after_us, version + 1
                yield GeneratedEvent(at_us, conversation_id, version, step.type, step.template % ids, ACTOR)
            at_us += 1 + random.randrange(100 * STEP_US)
