"""Model calls: what a model is sent, the gateway to providers, errors, retries, usage and prices.

Imports domain, commands and projections, and no other package of turns.
"""
