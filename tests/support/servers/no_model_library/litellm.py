"""A stand-in for litellm in servers that call no model. Its import never ends."""

import sys
from threading import Event

print("the model library loads", file=sys.stderr, flush=True)
Event().wait()
