"""What a conversation is: events, state and decisions; pure, importing only pydantic and eventsourcing's vocabulary."""
