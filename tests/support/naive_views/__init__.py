"""The expected read models, computed from all events in the simplest way.

The views are slow and easy to verify.
"""
