"""Conversations: events, state and pure decisions.

Imports pydantic and no other package of this repository.
"""
