"""Limits of an owner's requests and open streams, counted over all processes.

It may import the log's database and the domain's errors, and nothing of HTTP. `turns.leases` limits running turns.
"""
