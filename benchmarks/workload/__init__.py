"""Made logs, servers, model servers and load generators that several benchmarks use."""
