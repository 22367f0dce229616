"""The frames of a turn: live, read back from the log, and recorded. Imports what `turns` imports, not `turns.model`."""
