"""Run a plan, anywhere: cells as chains of stored segments, on Ray Tune or in this process, tracked in MLflow."""
