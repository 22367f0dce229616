"""The log as a persistence module of the eventsourcing library.

`PERSISTENCE_MODULE=eventlog.library` makes an application of the library record in the log. `TURNLOG_DATABASE_URL`
names the database, and `TURNLOG_LOG_SCHEMA` the schema (`turnlog` by default). Imports domain and eventlog.
"""

from eventlog.library.application import ConversationApplication
from eventlog.library.factory import LogFactory

# The library looks for exactly one factory in a persistence module.
__all__ = ["ConversationApplication", "LogFactory"]
