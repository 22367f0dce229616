"""Rebuilds, switches and time travel. Imports domain, eventlog, projections."""
