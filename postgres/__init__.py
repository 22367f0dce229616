"""The embedded PostgreSQL: one data directory and its server; imports no other package of Turnlog."""
