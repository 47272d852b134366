"""A whole search on one machine, the orchestrator, progress and status."""
