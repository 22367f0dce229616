"""The log as a persistence module of the eventsourcing library; imports domain and eventlog.

`PERSISTENCE_MODULE=eventlog.library` makes an application of the library record in the log. `TURNLOG_DATABASE_URL`
says where, and `TURNLOG_LOG_SCHEMA` in which schema (`turnlog` by default).
"""

from eventlog.library.application import ConversationApplication
from eventlog.library.recorder import LogFactory

# The library looks for exactly one factory in a persistence module.
__all__ = ["ConversationApplication", "LogFactory"]
