"""Commands on conversations: load the state, decide, append; imports domain and eventlog."""
