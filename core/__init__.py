"""One SWaST training run: configuration, data, model, the loop, and its events. No tracker, no scheduler."""
