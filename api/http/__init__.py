"""HTTP apart from any one route: requests, responses, problems, SSE and cursors.

It may import `api.services` and the layers below `api`, and no route.
"""
