"""Model calls: contexts, the gateway to providers, errors, retries and usage.

Imports domain, commands and projections, and no other package of turns.
"""
