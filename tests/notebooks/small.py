"""A small course that keeps to every rule, for tests that break it in one place."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "01_small"
SCRIPT = f"{NAME}/{NAME}.py"

GOOD = r"""# The head: comments, and what goes to the students.
release_files = ["runs.json"]

# %% [markdown]
# # 01 · Small
#
# ## You will be able to
#
# - double a number.
#
# ![A line that goes up](line.png)

# %% parameters
profile = "auto"

# %%
import math

# %% [markdown]
# The entropy is $H(P_t) = - \sum_{v \in V} p_t \log p_t$, of `double`. How small can it be?
#
# - **A** below 0
# - **B** 0
# - **C** 1


# %% exercise="double" minutes=5
def double(x):
    ### BEGIN SOLUTION
    twice = x + x
    return twice
    ### END SOLUTION


# %% check="double"
print("right" if double(2) == 4 else "not yet")

# %% test="double" points=2
assert double(3) == 6
### BEGIN HIDDEN TESTS
for n in range(10):
    assert double(n) == 2 * n
### END HIDDEN TESTS

# %% quiz="floor" points=1
answer = None  # "A", "B" or "C"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="floor"
print("You chose", answer)

# %% [markdown] essay="why" points=3
# Why does a student learn from a teacher?
# ### BEGIN SOLUTION
# Because a distribution says more than a word. *Rubric:* 3 points for that.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# Twice is twice.
"""


def write_course(root: Path, text: str = GOOD, name: str = NAME) -> Path:
    """A repository with this one script, a file that goes to the students and one that does not."""
    folder = root / "solutions" / name
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "runs.json").write_text('{"bleu": 30.0}\n', encoding="utf-8")
    (folder / "helper.py").write_text("secret = 1\n", encoding="utf-8")
    return folder / f"{name}.py"


def replaced(old: str, new: str, text: str = GOOD) -> str:
    """The good script with one place changed, which must be there."""
    assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
    return text.replace(old, new)
