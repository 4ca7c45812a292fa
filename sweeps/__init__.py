"""What to run: grid files, their cells, the stages cells share, and the plan."""
