"""A stand-in for litellm in servers that call no model. Its import never ends."""

import sys
from threading import Event

sys.stderr.write("the model library loads\n")  # in one call, because other threads write lines too
Event().wait()
