"""The worker: one loop around the pure core."""
