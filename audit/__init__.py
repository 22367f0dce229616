"""Audit: conversations from other programs. May import all but `api` and `cli`."""
