"""What holds in every test: one thread, no window, no hub; set before torch is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests themselves run side by side
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from hypothesis import settings

settings.register_profile("kdlab", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kdlab")
