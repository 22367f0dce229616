"""Audit: conversations that come from elsewhere. May import all but `api` and `cli`."""
