"""What holds in every test: one thread, no window, no hub; set before torch is imported."""

import os
from importlib.util import find_spec

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests themselves run side by side
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from hypothesis import settings

settings.register_profile("kdlab", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kdlab")

# Whose examples run another runtime, which the extra `deploy` brings.
NEEDED_BY_EXAMPLES = {
    "kdlab.export_ctranslate2": ("ctranslate2",),
    "kdlab.export_onnx": ("onnx", "onnxruntime"),
    "kdlab.exported": ("ctranslate2", "onnx", "onnxruntime"),
    "kdlab.onnx_graph": ("onnx",),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the examples of a runtime that is not installed."""
    for item in items:
        if not isinstance(item, pytest.DoctestItem):
            continue
        module = ".".join(item.name.split(".")[:2])
        missing = [name for name in NEEDED_BY_EXAMPLES.get(module, ()) if find_spec(name) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} not installed"))
