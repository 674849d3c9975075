"""Progress bars with an ETA, quiet where nobody looks at a terminal."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

from kdlab import processes


def progress_bar(total: int, description: str, unit: str, **options: Any) -> tqdm[Any]:
    """A bar over `total` units. Written to a file or a CI log, it adds a line only every half minute.

    Of several processes only the main one shows it.

    >>> with progress_bar(3, "translating", "sentences", disable=True) as bar:
    ...     bar.total, bar.disable
    (3, True)
    """
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        disable=options.pop("disable", False) or not processes.is_main(),
        **options,
    )
