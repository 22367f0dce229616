"""What benchmarks are compared with: other programs that do the same, and less."""
