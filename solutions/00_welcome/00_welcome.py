# %% [markdown]
# # 00 · Welcome
#
# A lab has a translation model that is excellent, large, slow and expensive. It wants one that translates on a phone.
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
# Click into the next cell and press Shift+Enter. It runs, and the one after it is selected.
#
# `profile` says how much this notebook does. `cpu` and `gpu` are full runs, `ci` is a short one, `grade` the shortest,
# for graders. `auto` fits your machine.

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
# one, and tells how many billions of operations a second that makes.

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
# More threads may even be slower, if other programs need the same cores. The course needs no GPU. Where it trains a
# model on a CPU, it takes a small one.

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
expected = {"Where is the station?": 4, "": 0, "Yes,  thank you.": 3}  # with two spaces
try:
    wrong = {sentence: count_words(sentence) for sentence in expected}
except NotImplementedError:
    print("count_words: not written yet")
else:
    wrong = {sentence: found for sentence, found in wrong.items() if found != expected[sentence]}
    for sentence, found in wrong.items():
        print(f"Not yet: {sentence!r} has {expected[sentence]} words, and your function returns {found!r}.")
        if found == len(sentence) > 0:
            print(f"{found} are the characters. Count the words.")
    if not wrong:
        print("count_words: right")

# %% [markdown]
# The test comes last. It gives the points, here none. A test that passes prints nothing. This one sees few cases: trust
# the check above it. Graders run it with more sentences than you see, and you cannot change it.

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
#
# An exercise that is not answered stops *Run All Cells* there. Click into the cell after it, and choose *Run > Run
# Selected Cell and All Below*.

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
# ## Glossary
#
# The words of the course, each with the notebook that explains it. The notebooks link to this table.
#
# | word | what it is | notebook |
# | --- | --- | --- |
# | teacher | the large model, which is there and does not change | 01 |
# | student | the small model, which learns from the teacher | 02 |
# | distillation | training a student on what its teacher says | 01 |
# | tokens | frequent words, and pieces of rare ones: what models read and write | 01 |
# | prefix | the words or tokens before the next one | 01 |
# | logits | the numbers that a model gives to all tokens; softmax makes probabilities of them | 01 |
# | temperature | what logits are divided by before softmax; above 1 the distribution is flatter | 01 |
# | nat | the unit of natural logarithms of probabilities | 01 |
# | entropy | how undecided a distribution is, in nats | 01 |
# | mass | probability, added up over some tokens | 01 |
# | padded | filled up to the length of the longest; such places have the label `-100` and do not count | 01 |
# | parameters | the numbers in a model that training changes | 02 |
# | dropout | in train mode, some of a model's numbers are set to 0 at random; in eval mode none | 02 |
# | freeze | take a model's parameters out of training | 02 |
# | agreement | the share of places where student and teacher have the same first choice | 02 |
# | divergence | a number for two distributions: 0 where they are equal, more where they differ | 03 |
# | forward KL | KL(teacher, student): the mean is the teacher's; the student must cover what the teacher says | 03 |
# | reverse KL | KL(student, teacher): the mean is the student's; the student may keep to a part | 03 |
# | references | translations by people, or by the grammar in their place | 04 |
# | label | the token that a place is to give | 04 |
# | cross-entropy | minus the mean log-probability that a student gives to labels, or to a teacher's distribution | 04 |
# | D' | the inputs of the training; they need no references | 05 |
# | updates | steps of the optimizer, one after each batch | 05 |
# | epoch | one pass over all training sentences | 05 |
# | baseline | the same student without a teacher, with the same compute | 05 |
# | gap closed | how far distillation brings the student from the baseline to the teacher, as a share | 05 |
# | floor | the lowest value that a loss can reach; cross-entropy's is the teacher's entropy | 05 |

# %% [markdown]
# ## Summary
#
# - Shift+Enter runs a cell; *Restart Kernel and Run All Cells* starts from nothing.
# - Each exercise has a check for you and a test for the points.
# - Validate, save, hand in.
#
# **Next:** `01_teacher_distribution`: what a translation model knows, and how to read it.
