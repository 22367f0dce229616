"""Benchmarks of audits."""
