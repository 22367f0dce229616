"""The append-only log in PostgreSQL: schema, group-commit writer, feed and images; imports domain."""
