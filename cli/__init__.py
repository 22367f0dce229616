"""The `turnlog` command. It may import every other package of Turnlog."""
