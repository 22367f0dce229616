"""The append-only log in PostgreSQL: schema, writer, feed and images.

Imports domain.
"""
