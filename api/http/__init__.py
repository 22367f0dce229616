"""HTTP apart from any one route: requests, problems, SSE, cursors, body limits."""
