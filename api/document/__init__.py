"""The OpenAPI document: derived from the routes, and completed by tables.

It may import `api.auth`, `api.http` and the layers below `api`, and no route.
"""
