"""Pure decisions on a state and a command.

Each returns events or raises a domain error. Imports domain.
"""
