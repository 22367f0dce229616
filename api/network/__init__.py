"""Requests that are let in: by host name, and from pages of other origins.

It may import `api.http` and `api.settings`, and no route.
"""
