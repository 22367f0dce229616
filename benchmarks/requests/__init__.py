"""Benchmarks of single HTTP requests, by rate, time and processor time."""
