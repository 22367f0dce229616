"""Generated logs, servers, model servers and load generators for benchmarks."""
