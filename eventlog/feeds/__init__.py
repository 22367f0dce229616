"""The log as processes follow it: its feed, notifications, and what they wake.

Imports domain and the rest of eventlog.
"""
