"""Models of requests, strict about names and types.

Imports api.auth, api.http, and the layers below.
"""
