"""Run the embedded PostgreSQL. It imports no other package of Turnlog."""
