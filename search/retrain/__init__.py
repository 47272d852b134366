"""Training outside a search: one configuration, or an exported one again."""
