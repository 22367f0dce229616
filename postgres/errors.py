"""Errors of the embedded PostgreSQL, each with one line for the operator.

EmbeddedPostgresError   the embedded PostgreSQL cannot be used; the only one that leaves this package
ClusterError            PostgreSQL could not be created, started or stopped
"""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used."""


class ClusterError(Exception):
    """PostgreSQL could not be created, started or stopped."""
