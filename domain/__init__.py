"""Conversations: events, state and pure decisions; imports only pydantic and no other package of this repository."""
