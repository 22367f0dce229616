"""Stands in for litellm in servers that ask no model: it loads until stdin is closed, and then fails to load."""

import sys

sys.stdin.read()
raise ImportError("this server runs without its model library")
