"""What is fast, and next to whom: programs that measure, each started as `python -m benchmarks.NAME`."""
