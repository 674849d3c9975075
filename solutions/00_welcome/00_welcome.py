# %% [markdown]
# # 00 · Welcome
#
# A lab has a translation model that is excellent, large, slow and dear. It wants one that translates on a phone.
# This course gets it there: the large model becomes the teacher of a small one.
#
# This first notebook shows how to work with notebooks. Nothing in it earns points.

# %% [markdown]
# ## You will be able to
#
# - run a cell and see what it prints,
# - solve an exercise and check it,
# - validate a whole notebook,
# - save your work and hand it in.
#
# **Time:** 10 minutes. **You need:** a little Python.

# %% [markdown]
# ## Run
#
# Click into the next cell and press Shift+Enter. It runs, and the one after it is chosen.
#
# `profile` says how much this notebook does. `auto` fits your machine.

# %% parameters
profile = "auto"

# %%
from kdlab.classroom.profile import choose_profile

profile = choose_profile(profile)
print("This notebook runs with the profile", profile)

# %% [markdown]
# Cells run in the order in which you run them, not in which they stand. If something seems odd, choose
# *Kernel > Restart Kernel and Run All Cells*: that starts from nothing.

# %% [markdown]
# ## Your machine
#
# How fast does this machine calculate? Training a model is mostly the multiplication of matrices. The next cell times
# one.

# %%
import time

import torch


def billions_a_second(size, device="cpu", repeats=5):
    """Multiplications and additions of one product of two matrices, the fastest of some repeats."""
    matrix = torch.ones(size, size, device=device)
    seconds = []
    for _ in range(repeats + 1):  # the first one only warms up
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a number waits until it is there
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:]) / 1e9


# %%
size = {"grade": 64, "ci": 512, "cpu": 1024, "gpu": 4096}[profile]
threads = torch.get_num_threads()
speeds = {}
for number in sorted({1, threads}):
    torch.set_num_threads(number)
    speeds[f"CPU, {number} thread{'s' if number > 1 else ''}"] = billions_a_second(size)
if torch.cuda.is_available():
    speeds[torch.cuda.get_device_name()] = billions_a_second(size, "cuda")

# %%
from kdlab.plot_style import bar, new_plot

with new_plot("billion operations a second", "", width=4.0, height=0.8 + 0.3 * len(speeds)) as (plot, axes):
    axes.barh(list(speeds), list(speeds.values()), **bar(0))
    axes.invert_yaxis()
said = "; ".join(f"{name} {speed:,.1f}" for name, speed in speeds.items())
plot.alt_text = f"Billion operations a second of your machine: {said}."
plot

# %% [markdown]
# The course needs no GPU. Where it trains a model on a CPU, it takes a small one.

# %% [markdown]
# ## An exercise
#
# Each exercise says what it wants. This one:
#
# > `count_words(sentence)` takes a string, words with spaces between them, and returns how many words it has, an
# > integer. `""` has 0.
#
# Replace the line that raises `NotImplementedError` and run the cell.
#
# <details><summary>A hint</summary>
#
# Strings have a method `split`.
#
# </details>


# %% exercise="count_words" minutes=3
def count_words(sentence):
    ### BEGIN SOLUTION
    return len(sentence.split())
    ### END SOLUTION


# %% [markdown]
# After an exercise comes a check. It tells whether you are right, as often as you like. It costs nothing.

# %% check="count_words"
sentence = "Where is the station?"
found = count_words(sentence)
if found == 4:
    print("Right: four words.")
elif found == len(sentence):
    print(f"Not yet: {found} are the characters. Count the words.")
else:
    print(f"Not yet: the sentence has 4 words, and your function returns {found!r}.")

# %% [markdown]
# The test comes last. It gives the points, here none. Graders run it with more sentences than you see; you cannot
# change it.

# %% test="count_words" points=0
assert count_words("Where is the station?") == 4, "'Where is the station?' has 4 words"
### BEGIN HIDDEN TESTS
assert count_words("") == 0, "an empty sentence has no words"
for number in range(1, 20):
    assert count_words(" ".join(["ja"] * number)) == number, f"a sentence of {number} words is miscounted"
### END HIDDEN TESTS

# %% [markdown]
# ## Validate
#
# The button *Validate* at the top runs the whole notebook in a fresh kernel, as graders do, and lists the tests that
# fail. Use it before you hand in. No such button? Restart the kernel and run all cells.

# %% [markdown]
# ## Save your work
#
# - **Binder** forgets everything when you have been idle for a while. Download the notebook before you take a break:
#   *File > Download*. To go on, drag the file into the list of files on the left.
# - **Colab**: *File > Save a copy in Drive*.
# - **Your own machine**: Ctrl+S, or Cmd+S.

# %% [markdown]
# ## Hand it in
#
# Save, then give the file `00_welcome.ipynb` to your instructor, in the way that your course uses. Keep its name, and
# keep all its cells: the graders look for them.

# %% [markdown]
# ## Summary
#
# - Shift+Enter runs a cell; *Restart Kernel and Run All Cells* starts from nothing.
# - Each exercise has a check for you and a test for the points.
# - Validate, save, hand in.
#
# **Next:** `01_teacher_distribution`: what a translation model knows, and how to read it.
