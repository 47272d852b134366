"""One trial's two stages, its verdict, and the trainers that can run it."""
