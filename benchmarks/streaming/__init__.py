"""Benchmarks of streamed turns."""
