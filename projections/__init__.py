"""Read models, each built from the log by a projection, and the engine that runs them; imports domain and eventlog."""
