"""Baselines of the benchmarks: programs that do the same work and check less."""
