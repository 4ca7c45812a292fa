"""Settings of every test: one thread, and no deadline, for a slow machine is no failure."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
