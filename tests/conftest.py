"""Puts this folder on the path, so that tests in all folders share `comparing` and `tiny_models`."""

import os

from hypothesis import settings

# More threads make models this tiny slower, above all when several processes test at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("whatever the load", deadline=None)
settings.load_profile("whatever the load")
