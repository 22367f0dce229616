"""Turns from the user's message to their end. May import all but `audit`, `api` and `cli`."""
