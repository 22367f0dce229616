"""Benchmarks of what auditors do."""
