"""Logs, metrics and traces of a serving process.

It may import `api.settings` and the layers below `api`, and nothing of HTTP but ASGI's types.
"""
