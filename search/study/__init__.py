"""A stored search: creating it, opening it, reading its trials."""
