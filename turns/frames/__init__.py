"""The frames of a turn, live and replayed, and what a turn leaves in the log."""
