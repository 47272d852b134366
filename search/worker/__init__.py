"""A worker: the parent's loop, its training child, and the pool that keeps workers alive."""
