"""What is tried and what it is worth: the two-stage selective search."""
