"""Commands on conversations and agents: load the state, decide, append.

Imports domain and eventlog.
"""
