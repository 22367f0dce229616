"""Run the embedded PostgreSQL of one data directory. It imports no other package of Turnlog."""
