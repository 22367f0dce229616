"""Benchmarks of Turnlog, each measured beside its baseline in the same run.

May import every package. No package imports it.
"""
