"""Rebuilding, verifying and time travel; imports domain, eventlog and projections."""
