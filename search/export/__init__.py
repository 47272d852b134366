"""What a search leaves behind: best.yaml and result tables."""
