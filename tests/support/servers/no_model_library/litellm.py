"""A stand-in for litellm in servers that call no model. Its import never ends."""

import sys
from threading import Event

sys.stderr.write("the model library loads\n")  # in one write, since other processes write to the same pipe
Event().wait()
