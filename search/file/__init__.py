"""The search file: YAML with line numbers, sections, cross-field checks, available data."""
