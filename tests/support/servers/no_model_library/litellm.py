"""A stand-in for litellm that loads until stdin is closed, and then fails.

It is used by servers that call no model.
"""

import sys

sys.stdin.read()
raise ImportError("this server runs without its model library")
