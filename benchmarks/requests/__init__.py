"""Benchmarks of single HTTP requests: their rate, their time and their processor time."""
