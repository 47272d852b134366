"""What a result is worth: TPE score, lambda, gate.  Pure arithmetic."""
