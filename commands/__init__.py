"""Commands on conversations: load the state, decide, append.

Imports domain and eventlog.
"""
