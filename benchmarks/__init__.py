"""The benchmarks, `python -m benchmarks`: trainer against the loops people write without it."""
