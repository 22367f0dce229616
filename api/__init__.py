"""The HTTP API, its settings and the services behind it.

It may import `audit` and all layers below.
"""
