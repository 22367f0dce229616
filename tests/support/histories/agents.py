"""Builders of valid agents, made by the domain's decisions."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from domain.agent import Agent, AgentDefined, AgentEvent, AgentSettings, evolve_agent
from domain.aggregates import AggregateEvent
from domain.decisions import agents
from domain.decisions.agents import AgentEvents
from domain.decisions.conversations import Origin
from tests.support.histories.builders import BEGINNING, OWNER, TOOL, origin

LABEL = "support-1"


class AgentStory:
    """A builder of one agent.

    Each step makes a decision on the current state, keeps its events and returns them. A step takes one second.
    """

    def __init__(self, label: str = LABEL, owner: str | None = OWNER, begins: datetime = BEGINNING) -> None:
        self.label = label
        self.events: list[AgentEvent] = []
        self.state: Agent | None = None
        self._owner = owner
        self._now = begins

    def origin(self) -> Origin:
        """Return the owner's origin, one second after the previous one."""
        self._now += timedelta(seconds=1)
        return origin(self._owner or "ops", self._now)

    def define(self, **settings: Any) -> AgentEvents:
        return self._keep(
            agents.define_agent(self.state, self.origin(), self._owner, self.label, AgentSettings(**settings))
        )

    def delete(self) -> AgentEvents:
        return self._keep(agents.delete_agent(self.state, self.origin(), self.label))

    @property
    def definition(self) -> AgentDefined:
        assert self.state is not None and self.state.definition is not None
        return self.state.definition

    def _keep(self, events: AgentEvents) -> AgentEvents:
        for event in events:
            self.state = evolve_agent(self.state, event)
        self.events += events
        return events


def fold_agent(events: Iterable[AggregateEvent]) -> Agent | None:
    """Return the state after events of an agent, None without any."""
    state: Agent | None = None
    for event in events:
        assert isinstance(event, AgentEvent)
        state = evolve_agent(state, event)
    return state


def one_of_each_agent() -> list[AgentEvent]:
    """Return an agent with every event type and every field."""
    story = AgentStory()
    story.define()
    story.define(
        system_prompt="Grüße höflich.",
        model="gpt-4o",
        max_context_tokens=4000,
        temperature=0.5,
        tools=(TOOL,),
        max_conversations=3,
        retain_days=30,
        tool_results_timeout_s=1.5,
    )
    story.delete()
    return story.events


@st.composite
def agent_histories(draw: st.DrawFn, most_steps: int = 30) -> list[AgentEvent]:
    """Return the events of some agents, interleaved as in a log."""
    stories = [AgentStory(label, owner) for owner in ("alice", "bob", None) for label in ("a", "b")]
    log: list[AgentEvent] = []
    for _ in range(draw(st.integers(1, most_steps))):
        story = draw(st.sampled_from(stories))
        exists = story.state is not None and story.state.definition is not None
        if exists and draw(st.integers(0, 2)) == 0:
            log += story.delete()
        else:
            log += story.define(
                system_prompt=draw(st.sampled_from([None, "Be brief.", "Ü"])),
                temperature=draw(st.sampled_from([None, 0.5])),
                tools=draw(st.sampled_from([(), (TOOL,)])),
                max_conversations=draw(st.sampled_from([None, 1, 2])),
            )
    return log
