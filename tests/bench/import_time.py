"""What `import kdlab` adds to `import torch`, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

SCRIPT = "import time, torch; start = time.perf_counter(); import kdlab; print(time.perf_counter() - start)"


def measure(repeats: int = 15) -> dict[str, Any]:
    """Median, lowest and highest of `repeats` processes, in milliseconds."""
    runs = [
        1e3
        * float(
            subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(repeats)
    ]
    return {
        "milliseconds": round(statistics.median(runs), 1),
        "lowest": round(min(runs), 1),
        "highest": round(max(runs), 1),
    }
