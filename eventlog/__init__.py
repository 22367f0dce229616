"""The append-only log in PostgreSQL: schema, group-commit writer, recorder, feed, embedded server; imports domain."""
