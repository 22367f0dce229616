"""Read models, built from the log by projections. Imports domain and eventlog."""
