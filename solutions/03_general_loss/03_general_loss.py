# %% [markdown]
# # 03 · The general loss
#
# The lab has a teacher that translates well and a student that fits a phone. One number must say how far the student
# is from the teacher. Training will make that number small, so it decides what the app will say.
#
# The course writes it
#
# $$\mathrm{Loss}(\Pr^t(\cdot|\cdot), \Pr_\theta^s(\cdot|\cdot), x)$$
#
# This notebook takes it apart, argument by argument, and puts it together again.

# %% [markdown]
# ## You will be able to
#
# - say what each argument of the loss is, and which of them training may change,
# - compute forward KL, reverse KL, the generalised Jensen-Shannon divergence and total variation,
# - choose one of them and give a reason,
# - derive the gradient that reaches the student.
#
# **Time:** 100 minutes. **You need:** softmax and its logarithm (notebook 01), a frozen teacher (notebook 02).

# %% parameters
profile = "auto"

# %%
from functools import partial

import torch

import kdlab
from kdlab.classroom import checks, mistakes, quiz
from kdlab.classroom.checks import fresh
from kdlab.classroom.profile import choose_profile
from kdlab.text.phrasebook import Phrasebook

profile = choose_profile(profile)

# %% [markdown]
# ## One sentence of the app
#
# A user types an English sentence. English has one word for *you*. German has two, and the words after it must agree.

# %%
phrasebook = Phrasebook("small")
source = "Do you know whether you can go shopping today?"
translations = phrasebook.translations(source)
translations

# %% [markdown]
# The first is formal, the second is among friends. Both are right. The phrasebook knows the exact probability of
# each, so it is our teacher here: `PhrasebookTeacher`, one that makes no error.

# %% [markdown]
# ## First argument: $\Pr^t(\cdot|\cdot)$
#
# The first dot stands for every possible output, the second for the input. Nothing is chosen yet: the loss gets the
# whole distribution, not the best word.
#
# Before each word the teacher has one distribution over the words `V`. That gives a table `[length, words]`.

# %%
target = next(iter(translations)).split(" ")
words = sorted({word for text in translations for word in text.split(" ")})
known = [phrasebook.next_word_distribution(source, target[:i]) for i in range(len(target))]
p_t = torch.tensor([[row.get(word, 0.0) for word in words] for row in known])
print(target, list(p_t.shape), sep="\n")

# %%
for i, word in enumerate(target):
    print(f"before {word!r}:", {other: round(p, 2) for other, p in known[i].items()})

# %% [markdown]
# In the first place the teacher is undecided: 0.6 against 0.4. After *Wissen* it is sure of everything. It reads
# its own words.
#
# Models hand over logits $z_t$, and $p_t = \operatorname{softmax}(z_t)$. A word that is impossible has the logit
# `-inf`.

# %%
teacher_logits = p_t.log()
print(teacher_logits[1])

# %% [markdown]
# ## Second argument: $\Pr_\theta^s(\cdot|\cdot)$
#
# The same kind of thing, from the student, with one letter more: $\theta$, its parameters. They are what training
# changes.
#
# Ours is a quick student: it chooses all words at once. It knows how often a word stands in a place, and not which
# words stand before it.

# %%
weights = torch.tensor(list(translations.values()))
spelt = [text.split(" ") for text in translations]
p_s = torch.stack(
    [
        sum(w * torch.tensor([float(text[i] == word) for word in words]) for w, text in zip(weights, spelt))
        for i in range(len(target))
    ]
)
p_s = 0.99 * p_s + 0.01 / len(words)  # no model is ever quite sure
student_logits = p_s.log()

# %%
from kdlab import plots

place = 3
shown = {"teacher": p_t[place].tolist(), "student": p_s[place].tolist()}
plots.distributions(words, shown, at_most=3)

# %% [markdown]
# This is the fourth place, after *Wissen Sie, ob*. The teacher says *Sie*. The student still thinks of *du*.

# %% quiz="arguments" points=1
# Training makes the loss small. Which part of Loss(Pr^t, Pr_theta^s, x) may it change?
#   A  Pr^t, until both agree
#   B  x, by leaving difficult inputs out
#   C  theta, the student's parameters
#   D  both distributions, each half of the way
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "C"
### END SOLUTION

# %% check="arguments"
quiz.show(
    "arguments",
    answer,
    {
        "A": "The teacher is frozen. If it could move, a teacher that knows nothing would agree with any student.",
        "B": "x is given: it is what users type. Leaving inputs out makes the number small, not the student good.",
        "C": "Only theta is trained. The teacher's distribution is a constant, whatever the student says.",
        "D": "That is mutual learning, another method. Here the teacher is frozen.",
    },
)

# %% [markdown]
# ## The loss itself: how far is $p_s$ from $p_t$?
#
# A *divergence* takes two distributions and returns a number: 0 if they are equal, more if they differ. There are many.
# You will write four.
#
# All of them have the same contract:
#
# - `student_logits` comes first, then `teacher_logits`: both `[..., V]`, the words on the last axis,
# - the answer is one number for each place: `[...]`, in nats.

# %%
FORBIDDEN = [
    "kdlab.losses.forward_kl",
    "kdlab.losses.reverse_kl",
    "kdlab.losses.generalized_jsd",
    "kdlab.losses.total_variation",
    "kdlab.losses.skew_forward_kl",
    "kdlab.losses.skew_reverse_kl",
    "kdlab.losses.alpha_divergence",
    "kdlab.losses.distillation_loss",
    "kdlab.losses.DistillationLoss",
]  # you write these: they raise while your function runs


def each_place(divergence, **options):
    """kdlab's divergence, one number for each place instead of their mean."""
    return partial(divergence, reduction="none", **options)


# %% [markdown]
# ## Exercise: forward KL
#
# $$\mathrm{KL}(p_t \| p_s) = \sum_{v \in V} p_t(v) \, (\log p_t(v) - \log p_s(v))$$
#
# Read it aloud: for each word, how much more probable it is for the teacher, on a logarithmic scale; the mean of
# that, *by the teacher's probabilities*.
#
# > `forward_kl(student_logits, teacher_logits)` takes two tensors `[..., V]` and returns `[...]`, nats. A teacher's
# > logit may be `-inf`: that word has $p_t(v) = 0$ and adds exactly 0.
#
# <details><summary>A hint</summary>
#
# `logits.log_softmax(-1)` gives $\log p_t$ or $\log p_s$. Its `.exp()` is the probability. Multiply, then sum over the last axis.
#
# </details>
#
# <details><summary>A hint, if you get nan</summary>
#
# `0 * -inf` is `nan`. Put 0 in these places before you sum: `torch.where(p_t > 0, terms, 0.0)`.
#
# </details>


# %% exercise="forward_kl" minutes=10
def forward_kl(student_logits, teacher_logits):
    ### BEGIN SOLUTION
    log_p_s = student_logits.log_softmax(-1)
    log_p_t = teacher_logits.log_softmax(-1)
    p_t = log_p_t.exp()
    terms = torch.where(p_t > 0, p_t * (log_p_t - log_p_s), 0.0)
    return terms.sum(-1)
    ### END SOLUTION


# %% check="forward_kl"
example = {"student_logits": student_logits, "teacher_logits": teacher_logits}
checks.function(
    "forward_kl",
    forward_kl,
    each_place(kdlab.forward_kl),
    fresh("student_logits", "teacher_logits"),
    example,
    mistakes=[
        mistakes.kl_reversed,
        mistakes.cross_entropy_not_kl,
        mistakes.softmax_twice,
        mistakes.mean_not_sum,
        mistakes.log_base_2,
        mistakes.softmax_over_wrong_axis,
        mistakes.sign_flipped,
    ],
    unit="nats",
    forbid=FORBIDDEN,
)

# %% test="forward_kl" points=2
assert forward_kl(torch.zeros(2, 3), torch.zeros(2, 3)).shape == (2,), "one number for each place"
### BEGIN HIDDEN TESTS


def with_an_impossible_word(seed):
    drawn = dict(fresh("student_logits", "teacher_logits")(seed))
    drawn["teacher_logits"][..., seed % 5] = -torch.inf
    return drawn


checks.function(
    "forward_kl",
    forward_kl,
    each_place(kdlab.forward_kl),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(7, 11), scale=4.0),
    fresh("student_logits", "teacher_logits", scale=60.0),
    with_an_impossible_word,
    seeds=(41, 42, 43),
    forbid=FORBIDDEN,
    graded=True,
)
same = torch.randn(4, 9, generator=torch.Generator().manual_seed(44))
leaf = same.clone().requires_grad_()
forward_kl(leaf, same.flip(-1)).sum().backward()
assert torch.allclose(leaf.grad, same.softmax(-1) - same.flip(-1).softmax(-1), atol=1e-5), "a wrong gradient"
assert forward_kl(same, same + 3.0).abs().max() < 1e-5, "equal distributions have KL 0"
### END HIDDEN TESTS

# %% [markdown]
# What does it say of our quick student? From here on the notebook uses `kdlab.forward_kl`, so a mistake above costs
# nothing below.

# %%
forward = each_place(kdlab.forward_kl)(student_logits, teacher_logits)
plots.divergence_along_target(target, {"forward KL": forward.tolist()})

# %% [markdown]
# It is near 0 in the first place: both say 0.6 and 0.4. It is about $-\log 0.6 = 0.51$ wherever the student cannot
# know which *you* it is.

# %% [markdown]
# ## Exercise: reverse KL
#
# The same two distributions, the other way round:
#
# $$\mathrm{KL}(p_s \| p_t) = \sum_{v \in V} p_s(v) \, (\log p_s(v) - \log p_t(v))$$
#
# Now the mean is taken *by the student's probabilities*. The student is in two places, and the gradient goes through
# both. None goes to the teacher: it is frozen.
#
# > `reverse_kl(student_logits, teacher_logits)`: `[..., V]`, `[..., V]` to `[...]`, nats. The gradient reaches
# > `student_logits` and never `teacher_logits`.
#
# <details><summary>A hint</summary>
#
# `teacher_logits.detach()` is the same numbers without a gradient.
#
# </details>


# %% exercise="reverse_kl" minutes=8
def reverse_kl(student_logits, teacher_logits):
    ### BEGIN SOLUTION
    log_p_s = student_logits.log_softmax(-1)
    log_p_t = teacher_logits.detach().log_softmax(-1)
    return (log_p_s.exp() * (log_p_s - log_p_t)).sum(-1)
    ### END SOLUTION


# %% check="reverse_kl"
checks.function(
    "reverse_kl",
    reverse_kl,
    each_place(kdlab.reverse_kl),
    fresh("student_logits", "teacher_logits"),
    mistakes=[
        mistakes.kl_reversed,
        mistakes.cross_entropy_from_student,
        mistakes.softmax_twice,
        mistakes.mean_not_sum,
        mistakes.log_base_2,
        mistakes.softmax_over_wrong_axis,
        mistakes.sign_flipped,
    ],
    unit="nats",
    gradient_to=["student_logits"],
    forbid=FORBIDDEN,
)

# %% test="reverse_kl" points=2
assert reverse_kl(torch.zeros(2, 3), torch.zeros(2, 3)).shape == (2,), "one number for each place"
### BEGIN HIDDEN TESTS
checks.function(
    "reverse_kl",
    reverse_kl,
    each_place(kdlab.reverse_kl),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(7, 11), scale=3.0),
    seeds=(51, 52, 53),
    gradient_to=["student_logits"],
    forbid=FORBIDDEN,
    graded=True,
)
impossible = reverse_kl(torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]]))
assert impossible.isposinf().all(), "the student says a word that is impossible for the teacher: inf"
### END HIDDEN TESTS

# %% [markdown]
# ## Summary
#
# - To be written.
