# %% [markdown]
# # 03 · The general loss
#
# The lab has a teacher that translates well and a student that fits a phone. One number must say how far the student
# is from the teacher. Training will make that number small, so it decides what the app will say.
#
# The course writes it
#
# $$\mathrm{Loss}(\mathrm{Pr}^t(\cdot|\cdot), \mathrm{Pr}_\theta^s(\cdot|\cdot), x)$$
#
# It is called a *model-mimicry loss*: it makes one model imitate another. This notebook takes it apart, argument by
# argument, and puts it together again.

# %% [markdown]
# ## You will be able to
#
# - say what each argument of the loss is, and which of them training may change,
# - compute forward KL, reverse KL, the generalised Jensen-Shannon divergence and total variation,
# - choose one of them and give a reason,
# - derive the gradient that reaches the student.
#
# **Time:** 130 minutes. **You need:** softmax and its logarithm (notebook 01), a frozen teacher (notebook 02).

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
# each, so it is our teacher here, one that makes no error. In kdlab it is called `PhrasebookTeacher`.

# %% [markdown]
# ## First argument: $\mathrm{Pr}^t(\cdot|\cdot)$
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
# At the first place the teacher is undecided: 0.6 against 0.4. After *Wissen* it is sure of everything. Each word
# depends on the words before it.
#
# Models hand over logits $z_t$, and $p_t = \operatorname{softmax}(z_t)$. A word that is impossible has the logit
# `-inf`.

# %%
teacher_logits = p_t.log()
print(teacher_logits[1])

# %% [markdown]
# ## Second argument: $\mathrm{Pr}_\theta^s(\cdot|\cdot)$
#
# The same kind of thing, from the student, with one letter more: $\theta$, its parameters. They are what training
# changes.
#
# Ours is a quick student: it chooses all words at once. It knows how often a word stands in a place, and not which
# words stand before it.

# %%
p_s = torch.zeros(len(target), len(words))
for text, probability in translations.items():
    for i, word in enumerate(text.split(" ")):
        p_s[i, words.index(word)] += probability
p_s = 0.99 * p_s + 0.01 / len(words)  # no model is ever quite sure
student_logits = p_s.log()

# %%
from kdlab import plots

place = 3
shown = {"student": p_s[place].tolist(), "teacher": p_t[place].tolist()}
plots.distributions(words, shown, at_most=2)

# %% [markdown]
# This is the fourth place, after *Wissen Sie, ob*. The teacher says *Sie*. The student still thinks of *du*.

# %% [markdown]
# ## Quiz
#
# Training makes the loss small. Which part of the loss may it change?
#
# - **A** $\mathrm{Pr}^t$, until both agree
# - **B** $x$, by leaving difficult inputs out
# - **C** $\theta$, the student's parameters
# - **D** both distributions, each half of the way

# %% quiz="arguments" points=1
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
# A *[divergence](../00_welcome/00_welcome.ipynb#Glossary)*
# takes two distributions and returns a number: 0 if they are equal, more if they differ. There
# are many. You will write four.
#
# All of them have the same contract:
#
# - `student_logits` comes first, then `teacher_logits`: both `[..., V]`, the words on the last axis,
# - the answer is one number for each place: `[...]`, in nats,
# - a gradient reaches `student_logits` and never `teacher_logits`: the teacher is frozen,
# - you write it yourself: while your function is tested, kdlab's own losses raise an error. PyTorch's functions are
#   allowed, `F.kl_div` too.


# %%
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
# > logit may be `-inf`: that word has $p_t(v) = 0$ and adds exactly 0. Logits may also be as large as 200.
#
# By hand: two words, $p_t$ = 0.75, 0.25 and $p_s$ = 0.5, 0.5. KL is 0.75 log(0.75 / 0.5) + 0.25 log(0.25 / 0.5) =
# 0.131.
#
# <details><summary>A hint</summary>
#
# `logits.log_softmax(-1)` gives $\log p_t$ or $\log p_s$. Its `.exp()` is the probability. Multiply, then sum
# over the last axis. `teacher_logits.detach()` is the same numbers without a gradient.
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
    log_p_t = teacher_logits.detach().log_softmax(-1)
    p_t = log_p_t.exp()
    terms = torch.where(p_t > 0, p_t * (log_p_t - log_p_s), 0.0)
    return terms.sum(-1)
    ### END SOLUTION


# %% check="forward_kl"
checks.function(
    "forward_kl",
    forward_kl,
    each_place(kdlab.forward_kl),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", scale=60.0),
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
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
)
checks.function(
    "forward_kl of our sentence, with impossible words",
    forward_kl,
    each_place(kdlab.forward_kl),
    {"student_logits": student_logits, "teacher_logits": teacher_logits},
    unit="nats",
    forbid=["kdlab.losses"],
)

# %% test="forward_kl" points=2
found = forward_kl(torch.zeros(2, 2), torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log())
assert found.shape == (2,), "one number for each place"
assert torch.allclose(found, torch.tensor([0.1308, 0.0]), atol=1e-3), (
    "the case by hand, and two equal distributions"
)
### BEGIN HIDDEN TESTS


def with_an_impossible_word(seed):
    drawn = dict(fresh("student_logits", "teacher_logits")(seed))
    drawn["teacher_logits"][..., seed % 5] = -torch.inf
    return drawn


checks.function(
    "forward_kl",
    forward_kl,
    partial(kdlab.forward_kl, reduction="none"),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(7, 11), scale=4.0),
    fresh("student_logits", "teacher_logits", scale=60.0),
    with_an_impossible_word,
    seeds=(41, 42, 43),
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
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
# It is near 0 at the first place: both say 0.6 and 0.4. It is about $-\log 0.6 = 0.51$ wherever the student cannot
# know which *you* it is.

# %% [markdown]
# ## Exercise: reverse KL
#
# The same two distributions, the other way round:
#
# $$\mathrm{KL}(p_s \| p_t) = \sum_{v \in V} p_s(v) \, (\log p_s(v) - \log p_t(v))$$
#
# Now the mean is taken *by the student's probabilities*. The student is in two places, and the gradient goes through
# both.
#
# > `reverse_kl(student_logits, teacher_logits)`: `[..., V]`, `[..., V]` to `[...]`, nats. The student's logits are
# > finite. Where the teacher's logit is `-inf`, the answer is `inf`.
#
# By hand, with the two distributions from above: 0.5 log(0.5 / 0.75) + 0.5 log(0.5 / 0.25) = 0.144.
#
# <details><summary>A hint</summary>
#
# Your forward KL with $p_t$ and $p_s$ exchanged. No word is left out here, so no `torch.where`.
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
    forbid=["kdlab.losses"],
)
checks.function(
    "reverse_kl of our sentence, with impossible words",
    reverse_kl,
    each_place(kdlab.reverse_kl),
    {"student_logits": student_logits, "teacher_logits": teacher_logits},
    forbid=["kdlab.losses"],
)

# %% test="reverse_kl" points=2
found = reverse_kl(torch.zeros(2, 2), torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log())
assert found.shape == (2,), "one number for each place"
assert torch.allclose(found, torch.tensor([0.1438, 0.0]), atol=1e-3), (
    "the case by hand, and two equal distributions"
)
### BEGIN HIDDEN TESTS
checks.function(
    "reverse_kl",
    reverse_kl,
    partial(kdlab.reverse_kl, reduction="none"),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(7, 11), scale=3.0),
    seeds=(51, 52, 53),
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
    graded=True,
)
impossible = reverse_kl(torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]]))
assert impossible.isposinf().all(), "the student says a word that is impossible for the teacher: inf"
### END HIDDEN TESTS

# %% [markdown]
# Now the quick student, measured the other way round:

# %%
print(each_place(kdlab.reverse_kl)(student_logits, teacher_logits))

# %% [markdown]
# `inf` in every place. Our student gives every word a little, and for this teacher all but one or two are impossible.
# Reverse KL never forgives that.
#
# A trained teacher never says exactly 0. We let ours be unsure by one per cent, and go on with it.

# %%
teacher_logits = (0.99 * p_t + 0.01 / len(words)).log()
reverse = each_place(kdlab.reverse_kl)(student_logits, teacher_logits)
forward = each_place(kdlab.forward_kl)(student_logits, teacher_logits)
measured = {"forward KL": forward.tolist(), "reverse KL": reverse.tolist()}
plots.divergence_along_target(target, measured, measure="nats")

# %% [markdown]
# Forward KL asks: *what does the teacher say that the student misses?* Reverse KL asks: *what does the student
# say that the teacher would not?* Our student says too much, and
# [reverse KL](../00_welcome/00_welcome.ipynb#Glossary)
# minds more.

# %% [markdown]
# ## Exercise: the generalised Jensen-Shannon divergence
#
# Is there something between the two, and never infinite? Compare both with their mixture:
#
# $$m(v) = \beta \, p_t(v) + (1 - \beta) \, p_s(v)$$
#
# $$\mathrm{JSD} = \beta \, \mathrm{KL}(p_t \| m) + (1 - \beta) \, \mathrm{KL}(p_s \| m)$$
#
# Wherever $p_t$ or $p_s$ is above 0, so is $m$. No logarithm of 0 is left.

# %% [markdown]
# What happens at the ends? For $\beta \to 0$ the mixture becomes $p_s$, so the first part becomes $\beta$ times
# *[forward KL](../00_welcome/00_welcome.ipynb#Glossary)*,
# and the second vanishes faster. Divide by $\beta (1 - \beta)$ and see:

# %%
for beta in (0.5, 0.1, 0.01, 0.001):
    value = kdlab.generalized_jsd(student_logits, teacher_logits, beta=beta)
    print(f"beta {beta}: {value:.5f}, divided {value / beta / (1 - beta):.3f}")
print(f"forward KL: {kdlab.forward_kl(student_logits, teacher_logits):.3f}")

# %% [markdown]
# So the formula itself tends to 0, and there is nothing to train on. At the very ends one therefore agrees on
# the KLs:
#
# > `generalized_jsd(student_logits, teacher_logits, beta)`: two tensors `[..., V]` and a number from 0 to 1; returns
# > `[...]`, nats. Between the ends the formula for JSD, *not* divided. `beta == 0`: forward KL. `beta == 1`: reverse
# > KL. All logits are finite.
#
# For the KLs use your own `forward_kl` and `reverse_kl`, or write the sums again: kdlab's raise an error here. If your
# own are not right yet, this one will not be.
#
# By hand, with the two distributions from above and $\beta = 0.2$: $m$ = 0.55, 0.45, and JSD is 0.2 · 0.0857 + 0.8 ·
# 0.0050 = 0.0212.
#
# <details><summary>A hint</summary>
#
# Two `if` for the ends. Then `m = beta * p_t + (1 - beta) * p_s`, of probabilities. Its logarithm, `m.log()`, stands in
# the sums; where a function asks for logits, it may be given as such.
#
# </details>


# %% exercise="generalized_jsd" minutes=12
def generalized_jsd(student_logits, teacher_logits, beta):
    ### BEGIN SOLUTION
    log_p_s, log_p_t = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    p_s, p_t = log_p_s.exp(), log_p_t.exp()
    if beta == 0:
        return (p_t * (log_p_t - log_p_s)).sum(-1)
    if beta == 1:
        return (p_s * (log_p_s - log_p_t)).sum(-1)
    log_m = (beta * p_t + (1 - beta) * p_s).log()
    teacher_part = (p_t * (log_p_t - log_m)).sum(-1)
    student_part = (p_s * (log_p_s - log_m)).sum(-1)
    return beta * teacher_part + (1 - beta) * student_part
    ### END SOLUTION


# %% check="generalized_jsd"
names = ("student_logits", "teacher_logits", "beta")
checks.function(
    "generalized_jsd",
    generalized_jsd,
    each_place(kdlab.generalized_jsd),
    fresh(*names),
    fresh(*names, beta=0.0),
    fresh(*names, beta=1.0),
    mistakes=[
        mistakes.beta_without_limits,
        mistakes.limits_swapped,
        mistakes.beta_swapped,
        mistakes.mixture_swapped,
        mistakes.mixture_of_logarithms,
        mistakes.beta_only_in_mixture,
        mistakes.jsd_divided,
        mistakes.probabilities_for_logits,
        mistakes.softmax_twice,
        mistakes.log_base_2,
    ],
    unit="nats",
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
)

# %% test="generalized_jsd" points=3
found = generalized_jsd(torch.zeros(2, 2), torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log(), 0.2)
assert found.shape == (2,), "one number for each place"
assert torch.allclose(found, torch.tensor([0.0212, 0.0]), atol=2e-4), (
    "the case by hand, and two equal distributions"
)
### BEGIN HIDDEN TESTS
names = ("student_logits", "teacher_logits", "beta")
checks.function(
    "generalized_jsd",
    generalized_jsd,
    partial(kdlab.generalized_jsd, reduction="none"),
    fresh(*names),
    fresh(*names, shape=(7, 11), scale=3.0),
    fresh(*names, beta=0.0),
    fresh(*names, beta=1.0),
    fresh(*names, beta=0.5),
    seeds=(61, 62, 63),
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
    graded=True,
)
one, other = torch.tensor([[30.0, -30.0]]), torch.tensor([[-30.0, 30.0]])
bound = generalized_jsd(one, other, 0.5)
assert abs(bound.item() - 0.6931472) < 1e-4, "at beta = 1/2 two that share no word are log 2 apart"
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise: total variation
#
# The plainest of the four. It needs no logarithm:
#
# $$\mathrm{TV} = \frac{1}{2} \sum_{v \in V} |p_t(v) - p_s(v)|$$
#
# It is the probability that lies in the wrong place: from 0 to 1.
#
# > `total_variation(student_logits, teacher_logits)`: `[..., V]`, `[..., V]` to `[...]`, a number from 0 to 1.
#
# By hand, with the two distributions from above: (0.25 + 0.25) / 2 = 0.25.
#
# <details><summary>A hint</summary>
#
# `.softmax(-1)` of both, `.abs()` of the difference. Do not forget the half.
#
# </details>


# %% exercise="total_variation" minutes=4
def total_variation(student_logits, teacher_logits):
    ### BEGIN SOLUTION
    difference = teacher_logits.detach().softmax(-1) - student_logits.softmax(-1)
    return difference.abs().sum(-1) / 2
    ### END SOLUTION


# %% check="total_variation"
checks.function(
    "total_variation",
    total_variation,
    each_place(kdlab.total_variation),
    fresh("student_logits", "teacher_logits"),
    mistakes=[
        mistakes.half_missing,
        mistakes.logits_compared,
        mistakes.log_probabilities_compared,
        mistakes.squared_differences,
        mistakes.no_absolute_value,
        mistakes.mean_not_sum,
        mistakes.softmax_over_wrong_axis,
    ],
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
)

# %% test="total_variation" points=1
found = total_variation(torch.zeros(2, 2), torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log())
assert found.shape == (2,), "one number for each place"
assert torch.allclose(found, torch.tensor([0.25, 0.0]), atol=1e-3), (
    "the case by hand, and two equal distributions"
)
### BEGIN HIDDEN TESTS
checks.function(
    "total_variation",
    total_variation,
    partial(kdlab.total_variation, reduction="none"),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(7, 11), scale=4.0),
    seeds=(71, 72, 73),
    gradient_to=["student_logits"],
    forbid=["kdlab.losses"],
    graded=True,
)
apart = total_variation(torch.tensor([[90.0, -90.0]]), torch.tensor([[-90.0, 90.0]]))
assert abs(apart.item() - 1) < 1e-6, "two that share no word are 1 apart"
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise: which properties hold for which?
#
# All four are 0 if the distributions are equal, and above 0 if not. In everything else they differ. Here is a tool to
# find out: it takes probabilities, the student's first.

# %%
FOUR = {
    "forward_kl": kdlab.forward_kl,
    "reverse_kl": kdlab.reverse_kl,
    "jsd": kdlab.generalized_jsd,  # at beta = 1/2
    "total_variation": kdlab.total_variation,
}


def measure(p_s, p_t):
    """The four divergences of two lists of probabilities."""
    student, teacher = torch.tensor([p_s]).log(), torch.tensor([p_t]).log()
    return {name: round(divergence(student, teacher).item(), 3) for name, divergence in FOUR.items()}


print(measure([0.9, 0.1], [0.5, 0.5]))
print(measure([0.5, 0.5], [0.9, 0.1]))

# %% [markdown]
# > `properties` is a dictionary: property -> set of the names for which it holds, *for any two distributions*.
# > The names are those of `FOUR`. One counterexample is enough to strike a name out. Names that survive the check's
# > five examples hold; the proofs are in the literature.
#
# | property | it means |
# | --- | --- |
# | `"symmetric"` | exchanging teacher and student changes nothing |
# | `"bounded"` | there is a number that it never exceeds |
# | `"finite_teacher_0"` | finite if the teacher has 0 where the student has not |
# | `"finite_student_0"` | finite if the student has 0 where the teacher has not |
# | `"triangle"` | a detour is never shorter: from a to c is at most a to b plus b to c |
#
# <details><summary>A hint</summary>
#
# Give `measure` a 0: `measure([1.0, 0.0], [0.5, 0.5])`. For the detour take `[0.99, 0.01]`, `[0.5, 0.5]` and
# `[0.01, 0.99]`.
#
# </details>

# %% exercise="properties" minutes=12
properties = {
    "symmetric": None,  # such as {"forward_kl", "jsd"}
    "bounded": None,
    "finite_teacher_0": None,
    "finite_student_0": None,
    "triangle": None,
}
### BEGIN SOLUTION
properties = {
    "symmetric": {"jsd", "total_variation"},
    "bounded": {"jsd", "total_variation"},
    "finite_teacher_0": {"forward_kl", "jsd", "total_variation"},
    "finite_student_0": {"reverse_kl", "jsd", "total_variation"},
    "triangle": {"total_variation"},
}
### END SOLUTION

# %% check="properties"
a, b, c = [0.99, 0.01], [0.5, 0.5], [0.01, 0.99]
SHOWN = {  # property -> what to measure, and what contradicts it
    "symmetric": ([(a, b), (b, a)], lambda one, other: one != other),
    "bounded": ([([1.0, 0.0], [0.0, 1.0])], lambda far: far == torch.inf),
    "finite_teacher_0": ([(b, [1.0, 0.0])], lambda value: value == torch.inf),
    "finite_student_0": ([([1.0, 0.0], b)], lambda value: value == torch.inf),
    "triangle": ([(a, c), (a, b), (b, c)], lambda direct, ab, bc: direct > ab + bc + 0.001),
}
for question, (pairs, contradicts) in SHOWN.items():
    chosen = properties.get(question)
    if isinstance(chosen, str):
        print(f"{question}: not right yet: a string; expected a set, such as {{{chosen!r}}}")
        continue
    if not isinstance(chosen, (set, list, tuple)):
        print(f"{question}: not written yet")
        continue
    found = {name: [measure(*pair)[name] for pair in pairs] for name in FOUR}
    wrong = [name for name in FOUR if name in chosen and contradicts(*found[name])]
    missing = sum(name not in chosen and not contradicts(*found[name]) for name in FOUR)
    unknown = sorted(set(chosen) - set(FOUR))
    if unknown:
        print(f"{question}: {unknown[0]!r} is none of the four names")
    elif wrong:
        print(f"{question}: not right yet: {wrong[0]} contradicts it: {pairs} gives {found[wrong[0]]}")
    elif missing:
        print(f"{question}: not right yet: {missing} more hold")
    else:
        print(f"{question}: right")

# %% test="properties" points=3
if None in properties.values():
    raise NotImplementedError("properties: not written yet")
assert set(properties) == {"symmetric", "bounded", "finite_teacher_0", "finite_student_0", "triangle"}
### BEGIN HIDDEN TESTS
right = {
    "symmetric": "jsd total_variation",
    "bounded": "jsd total_variation",
    "finite_teacher_0": "forward_kl jsd total_variation",
    "finite_student_0": "jsd reverse_kl total_variation",
    "triangle": "total_variation",
}
for question, names in right.items():
    assert sorted(set(properties[question])) == names.split(), f"{question}: not right yet"
### END HIDDEN TESTS

# %% [markdown]
# No divergence has everything. Only total variation is a *distance* in the mathematical sense; of the JSD the square
# root is one. A loss need not be one: training asks for a good direction. That is the gradient.

# %% [markdown]
# ## What reaches the student: the gradient
#
# Training changes $\theta$ through the student's logits $z_s$. So the question is: how does the divergence move
# if one logit $z_s(v)$ moves?
#
# For forward KL, on paper ($i$, $j$ and $v$ each stand for a word):
#
# 1. $\mathrm{KL}(p_t \| p_s) = \sum_i p_t(i) \log p_t(i) - \sum_i p_t(i) \log p_s(i)$. The first sum does not
#    depend on $z_s$. It goes.
# 2. $\log p_s(i) = z_s(i) - \log \sum_j \exp z_s(j)$.
# 3. Differentiate 2 by $z_s(v)$. The first term gives 1 if $i = v$, else 0. And the second?
# 4. Put 3 into 1, and use that the $p_t(i)$ add up to 1.
#
# <details><summary>A hint for step 3</summary>
#
# The derivative of $\log \sum_j \exp z_s(j)$ by $z_s(v)$ is $\exp z_s(v)$ divided by the sum: the softmax itself,
# $p_s(v)$.
#
# </details>
#
# <details><summary>A hint for step 4</summary>
#
# The sum over $i$ of $- p_t(i)$ times ($1$ if $i = v$, else $0$) leaves one term. In the other part $p_s(v)$ is the
# same for every $i$: take it out of the sum.
#
# </details>

# %% [markdown]
# ## Exercise: the gradient of forward KL
#
# > `d_forward_kl(student_logits, teacher_logits)`: `[..., V]`, `[..., V]` to `[..., V]`: for each logit of the
# > student, the derivative of the forward KL of its place. Your closed formula, without autograd: it is
# > switched off.
#
# The check compares your formula with what autograd finds, on fresh random logits, in float64.


# %% exercise="d_forward_kl" minutes=12
def d_forward_kl(student_logits, teacher_logits):
    ### BEGIN SOLUTION
    return student_logits.softmax(-1) - teacher_logits.softmax(-1)
    ### END SOLUTION


# %% check="d_forward_kl"
checks.gradient(
    "d_forward_kl",
    torch.inference_mode()(d_forward_kl),
    partial(kdlab.forward_kl, reduction="sum"),
    fresh("student_logits", "teacher_logits"),
    mistakes=[
        mistakes.sign_flipped,
        mistakes.gradient_to_probabilities,
        mistakes.softmax_moves_one,
        mistakes.logits_subtracted,
        mistakes.softmax_twice,
    ],
    forbid=["kdlab.losses"],
)

# %% test="d_forward_kl" points=2
found = d_forward_kl(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log())
assert found.shape == (1, 2), "one number for each logit"
assert torch.allclose(found, torch.tensor([[-0.25, 0.25]]), atol=1e-3), "p_t = 0.75, 0.25 and p_s = 0.5, 0.5"
### BEGIN HIDDEN TESTS
checks.gradient(
    "d_forward_kl",
    torch.inference_mode()(d_forward_kl),
    partial(kdlab.forward_kl, reduction="sum"),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(6, 9), scale=4.0),
    seeds=(81, 82, 83),
    forbid=["kdlab.losses"],
    graded=True,
)
drawn = fresh("student_logits", "teacher_logits")(84)
assert d_forward_kl(**drawn).sum(-1).abs().max() < 1e-5, "the entries of a place add up to 0"
### END HIDDEN TESTS

# %% [markdown]
# Student minus teacher, nothing more. The push on a word is what the student lacks, $p_t - p_s$. A word that it does
# not know at all still gets its full $p_t$: nothing that the teacher says is given up.

# %% [markdown]
# ## Exercise: the gradient of reverse KL
#
# Here $p_s$ stands in two places. Call `r = log_p_s - log_p_t` the ratio on a logarithmic scale. Then reverse
# KL is the sum of `p_s * r`: the mean of `r` by $p_s$.
#
# 1. The derivative of $p_s(i)$ by $z_s(v)$ is $p_s(i)$ times ($1$ if $i = v$, else $0$, minus $p_s(v)$).
# 2. The derivative of $\log p_s(i)$ is that without the factor $p_s(i)$. Weighted by $p_s(i)$ and summed over
#    $i$ it is 0: why?
# 3. What is left is the sum over $i$ of `r` times what stands in 1.
#
# > `d_reverse_kl(student_logits, teacher_logits)`: `[..., V]`, `[..., V]` to `[..., V]`, as above, without autograd.
#
# <details><summary>A hint</summary>
#
# The sum in 3 has two parts: one of the word itself, and one with the mean of `r` by $p_s$. A sum keeps its axis with
# `sum(-1, keepdim=True)`.
#
# </details>


# %% exercise="d_reverse_kl" minutes=12
def d_reverse_kl(student_logits, teacher_logits):
    ### BEGIN SOLUTION
    log_p_s = student_logits.log_softmax(-1)
    ratio = log_p_s - teacher_logits.log_softmax(-1)
    p_s = log_p_s.exp()
    divergence = (p_s * ratio).sum(-1, keepdim=True)
    return p_s * (ratio - divergence)
    ### END SOLUTION


# %% check="d_reverse_kl"
checks.gradient(
    "d_reverse_kl",
    torch.inference_mode()(d_reverse_kl),
    partial(kdlab.reverse_kl, reduction="sum"),
    fresh("student_logits", "teacher_logits"),
    mistakes=[
        mistakes.sign_flipped,
        mistakes.p_and_q_swapped,
        mistakes.gradient_to_probabilities,
        mistakes.softmax_moves_one,
        mistakes.gradient_of_forward_kl,
        mistakes.ratio_mean_unweighted,
        mistakes.logits_subtracted,
    ],
    forbid=["kdlab.losses"],
)

# %% test="d_reverse_kl" points=2
found = d_reverse_kl(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log())
assert found.shape == (1, 2), "one number for each logit"
assert torch.allclose(found, torch.tensor([[-0.2747, 0.2747]]), atol=1e-3), (
    "p_t = 0.75, 0.25 and p_s = 0.5, 0.5"
)
### BEGIN HIDDEN TESTS
checks.gradient(
    "d_reverse_kl",
    torch.inference_mode()(d_reverse_kl),
    partial(kdlab.reverse_kl, reduction="sum"),
    fresh("student_logits", "teacher_logits"),
    fresh("student_logits", "teacher_logits", shape=(6, 9), scale=3.0),
    seeds=(91, 92, 93),
    forbid=["kdlab.losses"],
    graded=True,
)
drawn = fresh("student_logits", "teacher_logits")(94)
assert d_reverse_kl(**drawn).sum(-1).abs().max() < 1e-5, "the entries of a place add up to 0"
### END HIDDEN TESTS

# %% [markdown]
# Look at the factor $p_s(v)$ in front. A word that the student never says gets no push at all, even if the
# teacher says it all the time. A student of reverse KL keeps to what it already says.

# %% [markdown]
# ## The student has to choose
#
# Now train. The teacher has two right sentences, 0.6 and 0.4. The quick student chooses each word by itself, so it
# cannot have both without mixing them: *Wissen du, ob Sie ... kannst?* is no German.
#
# What will each divergence make of it? Guess before you run the next cells.

# %%
from itertools import product

choices = torch.tensor(list(product([1.0, 0.0], repeat=4)))  # 4 places where the two differ: 16 sentences
formal, informal = 0, 15  # all four formal, all four informal: the only two that are right
p_teacher = torch.full((16,), 0.01 / 16)  # a trained teacher is a little unsure
p_teacher[formal] += 0.99 * 0.6
p_teacher[informal] += 0.99 * 0.4


def quick_student(theta):
    """[starts, 4], a logit for the formal word in each place, to log-probabilities [starts, 16 sentences]."""
    log_formal, log_informal = torch.nn.functional.logsigmoid(torch.stack([theta, -theta]))
    return log_formal @ choices.T + log_informal @ (1 - choices).T


# %% [markdown]
# Training is the same for all: 8 random starts, 150 updates, and the start with the lowest loss is kept.

# %%
updates = 2 if profile == "grade" else 150


def fit(divergence):
    """Probabilities of the 16 sentences after training on a divergence."""
    theta = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = p_teacher.log().expand(8, 16)
    for update in range(updates):
        loss = divergence(quick_student(theta), teacher, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, theta)
        # steps of equal length: only the direction counts
        direction = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        theta = theta - 0.3 * (1 - update / updates) * direction  # shorter and shorter steps
    with torch.no_grad():
        student = quick_student(theta)
        best = divergence(student, teacher, reduction="none").argmin()
        return student[best].exp()


# %%
def grouped(p):
    """Formal, informal, and all fourteen mixed ones together."""
    right = [p[formal].item(), p[informal].item()]
    return [*right, max(1 - sum(right), 0.0)]


fitted = {
    "teacher": grouped(p_teacher),
    "forward KL": grouped(fit(kdlab.forward_kl)),
    "JSD, beta 1/2": grouped(fit(kdlab.generalized_jsd)),
    "total variation": grouped(fit(kdlab.total_variation)),
    "reverse KL": grouped(fit(kdlab.reverse_kl)),
}

# %%
kinds = ["formal", "informal", "mixed"]


def plot_sentences(probabilities):
    plot = plots.distributions(kinds, probabilities)
    plot.alt_text = plot.alt_text.replace("the next word", "each kind of sentence")
    return plot


plot_sentences(fitted)

# %% [markdown]
# - **Forward KL** misses nothing: every word gets its 0.6 or 0.4. So most of its sentences are mixed, and wrong.
#   It *covers the modes*.
# - **Reverse KL** says the formal sentence and forgets the informal one. Almost nothing it says is wrong. It
# *seeks a mode*.
# - **JSD** sides with reverse KL here.
# - **Total variation** only counts how much lies in the wrong place. It does not care whether that is a missing
#   sentence or a mixed one.

# %% [markdown]
# ## From one end to the other
#
# With beta the generalised JSD goes from forward to reverse KL. Where does the student change its mind? (The betas
# are not evenly spaced.)

# %%
betas = [0.0, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 1.0] if profile != "grade" else [0.0, 1.0]
along_beta = {beta: grouped(fit(partial(kdlab.generalized_jsd, beta=beta))) for beta in betas}

# %%
from kdlab.plot_style import STYLES, legend, new_plot

with new_plot("beta", "probability", width=4.0) as (plot, axes):
    for number, kind in enumerate(kinds):
        colour, marker, line = STYLES[number]
        values = [found[number] for found in along_beta.values()]
        axes.plot(values, color=colour, marker=marker, linestyle=line, label=kind)
    axes.set_xticks(range(len(betas)), betas)
    legend(plot, kinds)
said = "; ".join(
    f"beta {beta}: formal {f:.2f}, informal {i:.2f}, mixed {m:.2f}" for beta, (f, i, m) in along_beta.items()
)
plot.alt_text = f"What a student says after training on the JSD. {said}."
plot

# %% [markdown]
# Near 0 the student mixes. A little further on it decides for one sentence, all at once. With the slider, where your
# machine has one, you see each student beside the teacher.

# %%
from IPython.display import display


def beside_the_teacher(beta):
    shown = {"teacher": grouped(p_teacher), f"student, beta {beta}": along_beta[beta]}
    display(plot_sentences(shown))


try:
    from ipywidgets import SelectionSlider, interact
except ImportError:
    beside_the_teacher(betas[-1])
else:
    interact(beside_the_teacher, beta=SelectionSlider(options=betas, description="beta"))

# %% [markdown]
# ## Quiz
#
# The app shows one translation. The quick student cannot hold both sentences. A mixed sentence is worse than a
# formal one in the wrong situation. Which divergence?
#
# - **A** forward KL: it is the usual one and covers everything
# - **B** reverse KL: what the student says, the teacher would say too
# - **C** total variation: it is bounded
# - **D** any: at their minimum they all agree

# %% quiz="choice" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="choice"
quiz.show(
    "choice",
    answer,
    {
        "A": "It covers everything, and for this student that means mixed sentences, most of the time.",
        "B": "It is punished for what the teacher would not say. It pays with variety: the informal form is gone.",
        "C": "Bounded, yes. But a mixed sentence costs it no more than a missing one.",
        "D": "Only a student that can become the teacher reaches 0 in all of them. This one cannot.",
    },
)

# %% [markdown]
# This is no verdict for all students. One that reads its own words, like most translation models, can hold both
# sentences. Then forward KL works well, and is the usual choice.

# %% [markdown]
# ## Third argument: $x$
#
# The loss belongs to one input. $x$ is the pair $(c, z)$: what is known, the context $c$, and the user's sentence $z$.
# The same two models can agree on one $x$ and not on another.
#
# The teacher is told that the user is formal. The app does not know that: its context $c'$ is empty. An output
# is now a whole translation.


# %%
def phrasebook_logits(c, z):
    """[1, translations of z]: logits of Pr(. | c, z) over whole sentences; c is a register or None."""
    known = phrasebook.translations(z, register=c)
    return torch.tensor([[known.get(y, 0.0) for y in phrasebook.translations(z)]]).log()


for z in (source, "Where is the hotel?", "Have you seen my passport?"):
    value = kdlab.forward_kl(phrasebook_logits(None, z), phrasebook_logits("formal", z))
    print(f"{value:.3f} nats: {z}")

# %% [markdown]
# Without a *you* the two agree exactly. With one, the student lacks $-\log 0.6 = 0.51$ nats. Training cannot
# give it what it is not told. Notebook 06 is about that.
#
# $D'$ is the set of training inputs, $x'$ one of them. What the training finds is $\hat{\theta}$, the $\theta$ with the
# smallest sum. A *reference* is a translation by a person.
#
# Training sums over many inputs:
#
# $$\hat{\theta} = \arg\min_\theta \sum_{x' \in D'}
# \mathrm{Loss}(\mathrm{Pr}^t(\cdot|\cdot), \mathrm{Pr}_\theta^s(\cdot|\cdot), x')$$
#
# What is in $D'$ decides what counts. It needs no references.

# %% [markdown]
# ## Exercise: put it together again
#
# Every part is there: two models, an input, a divergence. Now the general loss, for any of them.
#
# > `general_loss(divergence, teacher, student, x, simplify)` returns one number (a tensor `[]`), in nats, for the
# > whole sentence.
# >
# > - `x` is the pair `(c, z)`, the context first; `simplify(c)` is $c'$,
# > - `teacher(c, z)` and `student(c', z)` return logits `[length, V]`,
# > - `divergence(student_logits, teacher_logits)` returns `[length]`,
# > - the loss is the *sum* over the places, and the teacher is frozen: no gradient reaches it.
#
# <details><summary>A hint</summary>
#
# Five lines: take `x` apart, ask the teacher inside `with torch.no_grad():`, ask the student, compare, sum.
#
# </details>


# %% exercise="general_loss" minutes=8
def general_loss(divergence, teacher, student, x, simplify):
    ### BEGIN SOLUTION
    c, z = x
    with torch.no_grad():
        teacher_logits = teacher(c, z)
    student_logits = student(simplify(c), z)
    return divergence(student_logits, teacher_logits).sum()
    ### END SOLUTION


# %% check="general_loss"
from kdlab.classroom.recognition import Mistake


def chi_square(student_logits, teacher_logits):  # one more divergence: any will do
    p_s, p_t = student_logits.softmax(-1), teacher_logits.softmax(-1)
    return ((p_t - p_s).square() / p_s).sum(-1)


def asked(
    student_logits, teacher_logits
):  # of the full context, 0, of the simplified one, 1, of anything else, 2
    return general_loss(
        chi_square,
        lambda c, z: teacher_logits[c if c in (0, 1) else 2] * 1.0,
        lambda c, z: student_logits[c if c in (0, 1) else 2] * 1.0,
        (0, "Where is the hotel?"),
        {0: 1}.get,
    )


def instead(sentence, student, teacher, divergence=chi_square):
    return Mistake(
        sentence,
        lambda call: [divergence(call["student_logits"][student], call["teacher_logits"][teacher]).sum()],
    )


def order(call):  # c and z exchanged, on the way to both models or to one
    found = (instead("", student, teacher) for student, teacher in [(2, 2), (1, 2), (2, 0)])
    return [value for one in found for value in one.answers(call)]


checks.function(
    "general_loss",
    asked,
    lambda student_logits, teacher_logits: chi_square(student_logits[1], teacher_logits[0]).sum(),
    fresh("student_logits", "teacher_logits", shape=(3, 4, 5)),
    mistakes=[
        Mistake("x is (c, z), and a model takes (c, z): the context comes first", order),
        instead("the student read the full context c", 0, 0),
        instead("the teacher read the simplified context", 1, 1),
        instead("each read the other's context", 0, 1),
        instead("the divergence takes the student's logits first", 1, 0, lambda s, t: chi_square(t, s)),
        instead("the mean over the places, not their sum", 1, 0, lambda s, t: chi_square(s, t) / 4),
        instead("another divergence was given", 1, 0, each_place(kdlab.forward_kl)),
    ],
    gradient_to=["student_logits"],
)

# %% test="general_loss" points=3
assert general_loss(
    each_place(kdlab.forward_kl), phrasebook_logits, phrasebook_logits, ("formal", source), lambda c: None
).isclose(torch.tensor(0.6).log().neg()), "a formal user, and a student that is not told"
### BEGIN HIDDEN TESTS


def try_general_loss(seed, member):
    z = seed % 3
    drawn = torch.randn(6, 2 + seed % 4, 7, generator=torch.Generator().manual_seed(seed))
    weight, theta = torch.ones(1, requires_grad=True), drawn[5].clone().requires_grad_()
    asked = []

    def hidden_teacher(c, z):
        asked.append((c, z))
        return drawn[c] * weight * (1 + z)

    def hidden_student(c, z):
        return drawn[c] * (1 + z) + theta

    found = general_loss(
        partial(member, reduction="none"), hidden_teacher, hidden_student, (1, z), lambda c: c + 2
    )
    wanted = member(hidden_student(3, z), drawn[1] * (1 + z), reduction="sum")
    assert found.shape == (), "one number"
    assert torch.allclose(found, wanted, rtol=1e-4), "another loss is right"
    got, expected = (torch.autograd.grad(loss, theta)[0] for loss in (found, wanted))
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-6), "the gradient of theta is not right"
    assert set(asked) == {(1, z)}, "the teacher reads c and z"


for member in (kdlab.forward_kl, kdlab.total_variation, kdlab.reverse_kl):
    for seed in (101, 102, 103):
        try_general_loss(seed, member)
### END HIDDEN TESTS

# %% [markdown]
# That is the whole method: ask both, compare, move $\theta$. All later notebooks fill in its parts.

# %% [markdown]
# ## Quiz
#
# A model-mimicry loss makes one model imitate another. What does it need for each input?
#
# - **A** the two distributions and a divergence between them
# - **B** a reference translation and the student's distribution
# - **C** the teacher's best translation and a reference
# - **D** two models of the same architecture

# %% quiz="components" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "A"
### END SOLUTION

# %% check="components"
quiz.show(
    "components",
    answer,
    {
        "A": "What to imitate, who imitates, and how far apart they are. The input decides where one looks.",
        "B": "That is ordinary training: the loss looks at a reference, and the teacher is not there.",
        "C": "That measures the teacher. No student is in it, so there is nothing to train.",
        "D": "They may be built differently. The loss sees only what they say; their outputs must be comparable.",
    },
)

# %% [markdown]
# ## Essay: deconstruct the loss
#
# A colleague reads `Loss(Pr^t(.|.), Pr_theta^s(.|.), x)` and says: "So we compare the two models' translations of the
# training pairs."
#
# Correct the sentence, in 150 to 250 words, for the team that builds the app:
#
# - What is each of the three arguments, and which depends on $\theta$?
# - What does `Loss` stand for? Name two choices for it, and what each would do to a student that cannot become the
#   teacher.
# - Which thing that ordinary training needs is not in it, and what does that allow?

# %% [markdown] essay="deconstruct" points=4
# *Your answer:*
#
# ### BEGIN SOLUTION
# **A model answer.** The loss does not compare two translations. Its first argument is the teacher's whole
# distribution over outputs, given the context and the user's sentence. It is a constant: the teacher is frozen.
# The second is the student's distribution. It alone depends on theta, and may be given a simpler context c'.
# The third is x, one input: the context and the sentence at which both are compared. Training sums over the
# inputs of D', so what we put into D' decides where the student becomes good.
#
# Loss is a slot for a divergence: a number that is 0 if both say the same. Forward KL punishes the student for what
# the teacher says and it does not. A student that cannot become the teacher then covers everything and
# mixes sentences. Reverse KL punishes it for what the teacher would not say. It settles on one good sentence and loses
# the others.
#
# There is no reference translation in it, so these are no training *pairs*. We can distil on every English
# sentence that we can find, also on the ones our users type. Nor is there anything of how the models are built:
# a phone's student may have another architecture, as long as the two distributions are over the same outputs.
#
# **Rubric.**
#
# - 1 point: whole distributions, not single translations; the teacher's constant, the student's depends on theta.
# - 1 point: x is an input (context and sentence), D' is a set of inputs, and its choice matters.
# - 1 point: two divergences, and for each what it does to a student that cannot become the teacher (mixes, or settles).
# - 1 point: no references in it, hence unlabelled text; or: nothing of the architecture, hence any student.
#
# Half of a point for a part that is named and not explained. Nothing is lost for language.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - $\mathrm{Pr}^t(\cdot|\cdot)$ is fixed, $\mathrm{Pr}_\theta^s(\cdot|\cdot)$ is trained, $x$ says where they are
#   compared. No reference is needed.
# - Forward KL: the teacher's mean. It covers the modes. Its gradient is $p_s - p_t$.
# - Reverse KL: the student's mean. It seeks a mode. Its gradient carries the factor $p_s$.
# - The generalised JSD lies between them and is bounded. Total variation is bounded and a distance.
# - The choice matters as soon as the student cannot become the teacher. That is always.
#
# **To read next.** Kullback and Leibler (1951), where KL comes from. Lin (1991), the Jensen-Shannon divergence.
# Hinton, Vinyals and Dean (2015), distillation with soft targets. Gu and others (2018), quick translation
# models that choose all words at once, and their trouble with several right answers. Wen and others (2023),
# f-divergences for sequences. Gu and others (2024), MiniLLM: reverse KL for language models. Agarwal and others
# (2024), GKD: the generalised JSD.
#
# **In the literature.** All four are *f-divergences*: $\sum_v p_s(v)$ times a convex function of $p_t(v) /
# p_s(v)$ (Csiszár 1967). `kdlab.distillation_loss` has nine of them.
#
# **Next:** `04_response_based_loss`: the loss on batches, with labels, padding and temperature, and the four
# bugs that nearly everybody makes.
