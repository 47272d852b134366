"""A whole search without training: injected faults, promises that must hold."""
