"""Sealed heads of a log's Merkle tree, and the checks of the log against them.

Imports the proofs, projections and eventlog.
"""
