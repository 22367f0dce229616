"""Rebuilding, switching, verifying and time travel. Imports domain, eventlog and projections."""
