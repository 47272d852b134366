"""A search as one page for a browser: collected, drawn, put into words."""
