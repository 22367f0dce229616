"""The routes, one module for each resource.

They may import `api.http`, `api.services` and the layers below `api`.
"""
