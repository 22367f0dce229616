"""Exports of a log as files, and the import of such files into an empty log.

Imports the proofs, the seals, projections and eventlog.
"""
