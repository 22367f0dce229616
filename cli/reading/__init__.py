"""Reading a log in a terminal: its events and conversations.

May import what `cli` may.
"""
