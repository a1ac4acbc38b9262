"""What measures the server: benchmarks, load, and comparisons with other servers."""
