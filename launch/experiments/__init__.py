"""Scripts of measurements that are not benchmarks, each with its figures beside it."""
