"""Where trials live and who is working on them (Postgres, Optuna; never torch)."""
