"""Reads of the past, from the log. Imports domain, eventlog and projections."""
