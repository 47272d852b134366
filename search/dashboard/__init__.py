"""optuna-dashboard behind a guard, with notes and artifacts for each trial."""
