"""Connect to PostgreSQL and run named SQL.

It imports only eventlog.errors and eventlog.background.
"""
