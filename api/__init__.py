"""The HTTP API, its settings and the services behind it.

It may import `turns` and all layers below.
"""
