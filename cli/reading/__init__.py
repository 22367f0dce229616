"""Reading a log in a terminal: its events, and conversations as they happened. May import what `cli` may."""
