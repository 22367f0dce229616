"""Limits of an owner's requests and open streams, counted over all processes.

It may import the database of the log and the errors of the domain, and nothing of HTTP. `turns.upkeep.leases` limits
running turns.
"""
