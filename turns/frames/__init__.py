"""The frames of a turn. May import what `turns` may, but not `turns.model`."""
