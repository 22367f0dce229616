"""Pure decisions: given a state and a command, return the events or raise a domain error."""
