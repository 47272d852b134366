"""Ended trials in experiment trackers; no worker depends on them."""
