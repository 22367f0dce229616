"""Connections to PostgreSQL and named SQL; imports eventlog.errors and eventlog.background alone."""
