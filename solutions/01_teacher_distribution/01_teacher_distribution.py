# %% [markdown]
# # 01 · The teacher's distribution
#
# The lab's translation model is excellent, large, slow and expensive. It will be the
# *[teacher](../00_welcome/00_welcome.ipynb#Glossary)*
# of a small model
# for the app. What can it teach? More than its translations: how probable it finds each of them.
#
# That is the teacher's distribution,
#
# $$P_t = \mathrm{Pr}^t(\cdot | c, z)$$
#
# This notebook reads it off a real teacher.

# %% [markdown]
# ## You will be able to
#
# - say what $P_t$ is, for one word and for a whole sentence,
# - compute it from logits, without overflow and at any temperature,
# - measure how undecided the teacher is,
# - add up the log-probability of a sentence in a padded batch,
# - say how much of $P_t$ must be kept.
#
# **Time:** 80 minutes, without the first training of the teacher. **You need:** Python, and PyTorch as far as
# `x.sum(-1)`.

# %% parameters
profile = "auto"

# %%
import torch

import kdlab
from kdlab import distributions, plots
from kdlab.classroom import checks, mistakes, quiz
from kdlab.classroom.checks import Tolerance, fresh
from kdlab.classroom.profile import choose_profile

profile = choose_profile(profile)

# %% [markdown]
# ## One question, six right answers
#
# The phrasebook is a grammar of English and German for travellers. It knows every right translation of a
# sentence and its exact probability.

# %%
from kdlab.text.phrasebook import Phrasebook

phrasebook = Phrasebook("small")
source = "Where is the bank?"
phrasebook.translations(source)

# %% [markdown]
# *Bank* is where the money is, *Ufer* is the bank of a river. English does not say which. And *ist*, *liegt*
# and *befindet sich* all mean *is*.
#
# A good teacher knows all of that. One translation alone would hide it.

# %% [markdown]
# Read $\mathrm{Pr}^t(\cdot|c,z)$ from the right:
#
# | | is | here |
# | --- | --- | --- |
# | $z$ | the user's input | `Where is the bank?` |
# | $c$ | context: what else the teacher is told | nothing |
# | $\cdot$ | every possible output | all German sentences |
#
# It is one number for each output. None is negative, and they add up to 1.

# %%
sum(phrasebook.translations(source).values())

# %% [markdown]
# ### Quiz
#
# In many books $z$ also stands for logits. What is the $z$ in $\mathrm{Pr}^t(\cdot | c, z)$?
#
# - **A** the teacher's logits
# - **B** the German translation
# - **C** the English sentence that the user typed
# - **D** the teacher's parameters

# %% quiz="the_letter_z" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "C"
### END SOLUTION

# %% check="the_letter_z"
quiz.show(
    "the_letter_z",
    answer,
    {
        "A": "Logits are what the model computes from its input. We write them z_t and z_s, with an index.",
        "B": "That is the output. It stands left of the bar, and the dot says: all of them.",
        "C": "z is the user's input, c the context. What stands right of the bar is given.",
        "D": "They are fixed, and the t in Pr^t already names the model.",
    },
)

# %% [markdown]
# ## Word by word
#
# A model does not list all sentences. It writes one word after the other, and before each it has a distribution
# over the *next word*. Multiplied, they give the sentence $y$ of the words $y_1, \ldots, y_n$. The end of the
# sentence counts as its last word:
#
# $$\mathrm{Pr}^t(y | c, z) = \prod_{i=1}^{n} \mathrm{Pr}^t(y_i | c, z, y_{<i})$$
#
# $y_{<i}$ is the *[prefix](../00_welcome/00_welcome.ipynb#Glossary)*: the words before word $i$.

# %% [markdown]
# ### Exercise: the next word
#
# Get the next-word distribution from the distribution over sentences.
#
# > `next_word(source, prefix_words)` takes an English string and a list of German words.
# > `next_word(source, ["Wo", "ist"])` returns a dict: next word -> its probability, given that the translation
# > begins with *Wo ist*.
# >
# > - Words are what is between single spaces: `"Wo ist das Ufer?".split(" ")`.
# > - Where a translation ends after the prefix, the next word is `""`.
# > - The prefix may be empty, `[]`. Every prefix tested begins some translation.
# > - Words that cannot follow are not in the dict. The values add up to 1.
#
# `phrasebook.translations(source)` is yours to use.

# %% [markdown]
# A smaller case by hand. Let the translations be `{"ja gern": 0.5, "ja": 0.25, "gut": 0.25}`. After `["ja"]`:
#
# | next word | probability of these translations | divided by 0.75 |
# | --- | --- | --- |
# | `"gern"` | 0.5 | 0.667 |
# | `""` | 0.25 | 0.333 |
#
# <details><summary>A hint</summary>
#
# For each translation: split it, and see whether its first `len(prefix_words)` words are the prefix. If so,
# add its probability to the entry of the next word. At the end divide all entries by their sum.
#
# </details>


# %% exercise="next_word" minutes=12
def next_word(source, prefix_words):
    ### BEGIN SOLUTION
    n = len(prefix_words)
    found = {}
    for sentence, probability in phrasebook.translations(source).items():
        words = [*sentence.split(" "), ""]
        if words[:n] == prefix_words:
            found[words[n]] = found.get(words[n], 0) + probability
    total = sum(found.values())
    return {word: probability / total for word, probability in found.items()}
    ### END SOLUTION


# %% check="next_word"
def draw_prefix(seed):
    pair = phrasebook.sample(1, seed)[0]
    words = pair.target.split(" ")
    return {"source": pair.source, "prefix_words": words[: seed % (len(words) + 1)]}


checks.function(
    "next_word",
    next_word,
    phrasebook.next_word_distribution,
    {"source": source, "prefix_words": ["Wo"]},
    {"source": source, "prefix_words": ["Wo", "ist", "die", "Bank?"]},
    {"source": "I brought the suitcase yesterday.", "prefix_words": ["Ich", "habe"]},
    {"source": "I like this castle very much.", "prefix_words": []},
    draw_prefix,
    seeds=[1, 2, 3, 21],
    mistakes=[
        mistakes.not_conditioned,
        mistakes.equal_shares,
        mistakes.only_the_best,
        mistakes.last_one_alone,
    ],
)

# %% test="next_word" points=2
assert abs(next_word(source, ["Wo", "ist"])["die"] - 0.5) < 1e-4, "after Wo ist, die has 0.5"
### BEGIN HIDDEN TESTS
book, bank = Phrasebook("small"), "Where is the bank?"


def any_sentence(seed):
    pair = book.sample(1, seed)[0]
    words = pair.target.split(" ")
    return {"source": pair.source, "prefix_words": words[: seed % (len(words) + 1)]}


endings = [{"source": bank, "prefix_words": words.split(" ")} for words in book.translations(bank)]
juice = {"source": "I ordered an orange juice yesterday.", "prefix_words": ["Ich", "habe"]}
castle = {"source": "I like this castle very much.", "prefix_words": []}
for inputs in [any_sentence, juice, castle, *endings, {"source": bank, "prefix_words": []}]:
    checks.function(
        "next_word", next_word, book.next_word_distribution, inputs, seeds=range(100, 140), graded=True
    )
### END HIDDEN TESTS

# %% [markdown]
# From here on the notebook uses the phrasebook's own function, whatever yours does. So one mistake costs
# one exercise.
#
# After *Wo ist* the teacher cannot know: the river or the money?

# %%
for prefix in (["Wo"], ["Wo", "ist"], ["Wo", "ist", "die"]):
    print(" ".join(prefix), "->", phrasebook.next_word_distribution(source, prefix))

# %% [markdown]
# ## A teacher that had to learn
#
# The grammar is exact. Real languages have no such table, only models. So here is a small one, a transformer
# trained on 40,000 sentence pairs of the phrasebook. It is our teacher.
#
# The first time, it is trained: one to two minutes on two cores. Then it lies in your cache.

# %%
from kdlab.phrasebook_teacher import phrasebook_teacher

phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=profile != "grade")
print(type(teacher).__name__)

# %% [markdown]
# `LiveTeacher` is the trained one. While a submission is graded nothing is trained: if the cache is empty,
# the exact `PhrasebookTeacher` answers in its place.
#
# ### Tokens
#
# Models do not read words but *[tokens](../00_welcome/00_welcome.ipynb#Glossary)*:
# frequent words, and pieces of rare ones. All tokens together are the
# vocabulary $V$. In shapes and in $\log V$, $V$ stands for how many there are. The token `</s>` ends a sentence.

# %%
target = "Wo ist die Bank?"
ids = tokenizer(text_target=target)["input_ids"]
print(len(tokenizer), "tokens in V")
print(list(zip(ids, [tokenizer.decode([i]) for i in ids], strict=True)))

# %% [markdown]
# ### Logits
#
# The teacher gets the source and the target. It returns one row of numbers for each place of the target: how
# well each token of $V$ would fit there. These are the *[logits](../00_welcome/00_welcome.ipynb#Glossary)*
# $z_t$, `[batch, length, V]`. With an index, $z_t$
# is logits; without one, $z$ is the input.

# %%
from kdlab.text.batches import collate, encode_pairs
from kdlab.text.parallel import ParallelText


def ask(source, targets):
    """The teacher's logits [batch, length, V] and the labels [batch, length] of translations of one source."""
    examples = encode_pairs(tokenizer, ParallelText([source] * len(targets), list(targets)))
    pad = tokenizer.pad_token_id
    batch = collate(examples, pad_token_id=pad, decoder_start_token_id=pad)  # it starts a sentence, too
    return teacher(batch), batch["labels"]


# %%
logits, labels = ask(source, [target])
print(list(logits.shape))
print("from", logits.min().item(), "to", logits.max().item())

# %% [markdown]
# Places count from 0. Row $i$ is computed from the source and the target's tokens *before* place $i$: it holds the
# logits for token $i$. (Other models need a shift: notebook 04.)

# %% [markdown]
# ## From logits to $P_t$
#
# Logits are no probabilities yet. Softmax makes them so. $p_t$, in small, is the distribution of the next token at one
# place, and $v$ a token; $P_t$ is that of whole outputs. $j$ runs through all tokens.
#
# $$p_t(v) = \frac{\exp(z_t(v) / T)}{\sum_j \exp(z_t(j) / T)}$$
#
# | formula | code | shape |
# | --- | --- | --- |
# | $z_t$ | `logits` | `[..., V]` |
# | $T$ | `temperature` | a number > 0 |
# | $\sum_j$ | `.sum(-1, keepdim=True)` | `[..., 1]` |
#
# The three dots are any axes before the last, such as batch and length.

# %% [markdown]
# $T$ is the *[temperature](../00_welcome/00_welcome.ipynb#Glossary)*.
# $T = 1$ is the teacher as it was trained. A larger $T$ divides all logits, so their differences shrink and
# the distribution gets flatter.
#
# We store *logarithms* of probabilities. A probability of $0.00001$ for each of 10 tokens makes $10^{-50}$,
# which float32 rounds to 0. Its logarithm, $-115$, is harmless.

# %% [markdown]
# The formula as it stands breaks: float32 ends at about $3 \times 10^{38}$.

# %%
torch.tensor([10.0, 100.0, 1000.0]).exp()

# %% [markdown]
# The way out: softmax does not change when the same number is subtracted from all logits. Why? The factor
# that it makes stands above and below the fraction line.
#
# Which number would keep every $\exp$ at 1 or below? It may be another one for each row.

# %% [markdown]
# ### Exercise: log-softmax
#
# > `log_softmax(logits, temperature)` takes `[..., V]` and a number > 0. It returns $\log p_t$: `[..., V]`,
# > in nats (natural logarithm).
# >
# > - Finite for logits of 10,000 and more.
# > - A logit of `-inf` means probability 0: its logarithm is `-inf`, and the others are right.
# > - float16 logits are turned into float32 before anything else: `logits.float()`.
# > - The input stays as it is.
#
# Write it with `exp`, `sum` and `log`. `torch.log_softmax` would give the same numbers and teach you nothing.
#
# <details><summary>A hint: the formula</summary>
#
# Take the logarithm of the softmax by hand: the fraction becomes a difference,
# $\log p_t(v) = z_t(v)/T - \log \sum_j \exp(z_t(j)/T)$.
#
# </details>
#
# <details><summary>A hint: the overflow</summary>
#
# `x.max(-1, keepdim=True).values` is the largest logit of each row. Subtract it first; after that the
# formula is safe.
#
# </details>


# %% exercise="log_softmax" minutes=12
def log_softmax(logits, temperature):
    ### BEGIN SOLUTION
    scaled = logits.float() / temperature
    scaled = scaled - scaled.max(-1, keepdim=True).values
    return scaled - scaled.exp().sum(-1, keepdim=True).log()
    ### END SOLUTION


# %% check="log_softmax"
checks.function(
    "log_softmax",
    log_softmax,
    kdlab.distributions.log_probabilities,
    {"logits": torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]]), "temperature": 2.0},
    fresh("logits", "temperature"),
    fresh("logits", "temperature", scale=500.0),
    fresh("logits", "temperature", minus_infinity=True),
    fresh("logits", "temperature", dtype=torch.float16),
    mistakes=[
        mistakes.no_softmax,
        mistakes.softmax_twice,
        mistakes.probabilities,
        mistakes.temperature_ignored,
        mistakes.temperature_inverted,
        mistakes.temperature_after_softmax,
        mistakes.softmax_over_wrong_axis,
        mistakes.log_base_2,
        mistakes.sign_flipped,
    ],
    unit="nats",
    tolerance=Tolerance(1e-4, 2e-3),  # float32 has no more digits for logits of thousands
)

# %% test="log_softmax" points=3
one_to_three = torch.tensor([1.0, 3.0]).log() * 2
assert abs(float(log_softmax(one_to_three, 2.0)[0]) + 1.3863) < 1e-3, "1 to 3, T = 2: the first is log 0.25"
### BEGIN HIDDEN TESTS
for inputs in (
    fresh("logits", "temperature"),
    fresh("logits", "temperature", shape=(7,)),
    fresh("logits", "temperature", shape=(4, 7)),
    fresh("logits", "temperature", shape=(2, 1, 3, 4), scale=500.0),
    fresh("logits", "temperature", minus_infinity=True),
    fresh("logits", "temperature", dtype=torch.float16),
):
    checks.function(
        "log_softmax",
        log_softmax,
        kdlab.distributions.log_probabilities,
        inputs,
        seeds=[101, 102, 103, 104],
        tolerance=Tolerance(1e-4, 2e-3),
        graded=True,
    )
hidden = torch.randn(3, 4, 6)
assert torch.allclose(log_softmax(hidden, 0.5).exp().sum(-1), torch.ones(3, 4), atol=1e-4), "they add up to 1"
assert torch.allclose(log_softmax(hidden + 7, 0.5), log_softmax(hidden, 0.5), atol=1e-4), (
    "adding 7 changes nothing"
)
### END HIDDEN TESTS

# %% [markdown]
# Now read the teacher. After *Wo ist*, place 2, the five most probable tokens:

# %%
log_p = distributions.log_probabilities(logits)
vocabulary = [tokenizer.decode([i]) for i in range(len(tokenizer))]
best = log_p[0, 2].exp().topk(5)
for probability, i in zip(best.values.tolist(), best.indices.tolist(), strict=True):
    print(f"{vocabulary[i]:10} {probability:.4f}")

# %% [markdown]
# The grammar says *die* 0.5 and *das* 0.5. The trained teacher comes near it and is not exact. Whatever it
# believes, its student will learn.

# %% [markdown]
# ## Temperature, seen
#
# Place 1, after *Wo*, at three temperatures. `l` is how *liegt* begins, `be` how *befindet* does: rare words
# come in pieces. `ie` is a piece that hardly anybody wants here.

# %%
place = 1  # after "Wo"


def at_temperatures(temperatures):
    rows = {
        f"T = {t}": distributions.log_probabilities(logits[0, place], t).exp().tolist() for t in temperatures
    }
    return plots.distributions(vocabulary, rows, at_most=5)


at_temperatures([0.5, 1.0, 2.0])

# %% [markdown]
# Move the slider: what happens to the order of the tokens, and what to *all others*? (No slider? You see the
# figure at $T = 4$.)

# %%
from kdlab.classroom.slider import slider

slider(lambda t: at_temperatures([t]), "T", [0.25, 0.5, 1.0, 2.0, 4.0, 8.0], start=4.0)

# %% [markdown]
# Why would anyone raise $T$? At $T = 1$ the rare tokens hold next to nothing, and a student hardly notices
# what the teacher thinks of them. A higher $T$ makes it visible. Notebook 04 comes back to it.

# %% [markdown]
# ### Quiz
#
# $T$ is raised from 1 to 4. What stays the same?
#
# - **A** the probability of the most probable token
# - **B** the order of the tokens, from the most to the least probable
# - **C** the ratio of any two probabilities
# - **D** nothing

# %% quiz="temperature" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="temperature"
quiz.show(
    "temperature",
    answer,
    {
        "A": "It falls, unless all tokens are equal: the distribution gets flatter.",
        "B": "All logits are divided by the same positive number. The larger one stays the larger one.",
        "C": "The ratio is exp of the difference of the logits, and that difference is divided by 4.",
        "D": "Something does: read the order of the tokens from top to bottom at each temperature.",
    },
)

# %% [markdown]
# ## How undecided is the teacher?
#
# One number for a whole distribution, the *[entropy](../00_welcome/00_welcome.ipynb#Glossary)*:
#
# $$H(p_t) = - \sum_v p_t(v) \log p_t(v)$$
#
# 0 says: certain. $\log V$, for a vocabulary of that size, says: every token is as good as any other. Its
# unit is the *[nat](../00_welcome/00_welcome.ipynb#Glossary)*, because the logarithm is natural.

# %% [markdown]
# By hand: for two tokens with 0.5 each, $H = -(0.5 \log 0.5 + 0.5 \log 0.5) = \log 2 = 0.693$ nats.
#
# For 1 and 0 the formula has $0 \log 0$. By convention that is 0: what never happens adds nothing. Python
# does not know the convention.

# %%
zero = torch.tensor(0.0)
zero * zero.log()

# %% [markdown]
# ### Exercise: entropy
#
# > `entropy(logits, temperature)` takes `[..., V]` and a number > 0. It returns $H$ of the softmax of
# > `logits / temperature`: `[...]`, one number for each row, in nats.
# >
# > A logit of `-inf` means probability 0, and adds 0.
#
# `distributions.log_probabilities(logits, temperature)` gives you $\log p_t$; you need not use your own.
#
# <details><summary>A hint: the sum</summary>
#
# `.exp()` turns log-probabilities into probabilities. The sum goes over the last axis, `.sum(-1)`.
#
# </details>
#
# <details><summary>A hint: 0 times -inf</summary>
#
# Where `p == 0`, the product must be 0: `masked_fill` puts a number where a condition holds.
#
# </details>


# %% exercise="entropy" minutes=8
def entropy(logits, temperature):
    ### BEGIN SOLUTION
    log_p = distributions.log_probabilities(logits, temperature)
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)
    ### END SOLUTION


# %% check="entropy"
checks.function(
    "entropy",
    entropy,
    kdlab.distributions.entropy,
    {"logits": torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 1.0]]), "temperature": 2.0},
    fresh("logits", "temperature"),
    fresh("logits", "temperature", minus_infinity=True),
    mistakes=[
        mistakes.sign_flipped,
        mistakes.log_base_2,
        mistakes.mean_not_sum,
        mistakes.softmax_twice,
        mistakes.temperature_ignored,
        mistakes.temperature_inverted,
        mistakes.softmax_over_wrong_axis,
    ],
    unit="nats",
)

# %% test="entropy" points=2
unequal = torch.tensor([0.5, 0.25, 0.25]).log()
assert abs(float(entropy(unequal, 1.0)) - 1.0397) < 1e-3, "0.5, 0.25, 0.25: 1.5 log 2 nats"
### BEGIN HIDDEN TESTS
for inputs in (
    fresh("logits", "temperature"),
    fresh("logits", "temperature", shape=(7,)),
    fresh("logits", "temperature", shape=(4, 7)),
    fresh("logits", "temperature", shape=(2, 1, 3, 4), scale=500.0),
    fresh("logits", "temperature", minus_infinity=True),
):
    checks.function(
        "entropy",
        entropy,
        kdlab.distributions.entropy,
        inputs,
        seeds=[101, 102, 103, 104],
        tolerance=Tolerance(1e-4, 2e-3),
        graded=True,
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Where the teacher hesitates
#
# The entropy before each token of *Wo ist die Bank?*, beside the grammar's own:

# %%
from kdlab.teachers import PhrasebookTeacher

examples = encode_pairs(tokenizer, ParallelText([source], [target]))
batch = collate(examples, pad_token_id=tokenizer.pad_token_id, decoder_start_token_id=tokenizer.pad_token_id)
exact = PhrasebookTeacher(phrasebook, tokenizer)(batch)

# %%
plots.entropy_along_target(
    [vocabulary[i] for i in ids],
    {
        "teacher": distributions.entropy(logits[0]).tolist(),
        "grammar": distributions.entropy(exact[0]).tolist(),
    },
)

# %% [markdown]
# Two tall bars: which verb, and which noun. *die* and *das* are the choice between money and river. After
# that the sentence is decided, and both know it.
#
# These bars are not the teacher's ignorance. They are in the question. No student can remove them.

# %% [markdown]
# ### Quiz
#
# To save work, the app team wants to keep only the teacher's most probable translation. What does the student
# lose?
#
# - **A** nothing: the most probable translation is the right one
# - **B** the other right translations, and how probable each is
# - **C** only mistakes of the teacher
# - **D** the temperature

# %% quiz="only_the_best" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="only_the_best"
quiz.show(
    "only_the_best",
    answer,
    {
        "A": "It is one of six right ones here. Even by the grammar it holds less than a third of the probability.",
        "B": "The student would see one sentence where P_t has six, and could not know that bank has two senses.",
        "C": "The others are right translations, not mistakes.",
        "D": "T is an option of the computation. It can be set for any logits.",
    },
)

# %% [markdown]
# It is still often done, since it is cheap. It is called sequence-level distillation, and notebook 07
# measures what it costs.

# %% [markdown]
# ## The log-probability of a sentence
#
# Back to whole sentences. The logarithm turns the product over the words into a sum:
#
# $$\log \mathrm{Pr}^t(y | c, z) = \sum_{i=1}^{n} \log \mathrm{Pr}^t(y_i | c, z, y_{<i})$$
#
# Each term is one entry of a row of $\log p_t$: that of the token which really stands there.

# %% [markdown]
# Sentences in a batch differ in length. The short ones are *[padded](../00_welcome/00_welcome.ipynb#Glossary)*:
# their labels end in `-100`, which is no
# token and must not count.

# %%
six = list(phrasebook.translations(source))
logits_of_six, labels_of_six = ask(source, six)
print("logits", list(logits_of_six.shape))
print(labels_of_six[:3])

# %% [markdown]
# ### Exercise: the log-probability of a padded sequence
#
# > `sequence_log_probability(logits, labels)` takes `[batch, length, V]` and integers `[batch, length]`. Row
# > $i$ of the logits belongs to label $i$: nothing is shifted. It returns $\log \mathrm{Pr}^t(y|c,z)$ of each
# > sequence: `[batch]`, in nats.
# >
# > A label of `-100` adds 0.
#
# Temperature is 1 here, so `distributions.log_probabilities(logits)` is the $\log p_t$ that you need. The labels are
# int64, as an index should be.

# %% [markdown]
# By hand, with 2 tokens in $V$ and probabilities 0.5 everywhere: labels `[0, 1, -100]` give
# $\log 0.5 + \log 0.5 = -1.386$.
#
# <details><summary>A hint: how gather works</summary>
#
# `log_p.gather(-1, index)` takes from each row the entry that `index` names. Both need the same number of
# axes: `labels.unsqueeze(-1)` is `[batch, length, 1]`, and `.squeeze(-1)` takes the last axis off again.
#
# </details>
#
# <details><summary>A hint: the padding</summary>
#
# `-100` cannot be an index. Put a valid one in its place, and make those entries 0 after gathering.
#
# </details>


# %% exercise="sequence_log_probability" minutes=12
def sequence_log_probability(logits, labels):
    ### BEGIN SOLUTION
    log_p = distributions.log_probabilities(logits)
    padding = labels == -100
    chosen = log_p.gather(-1, labels.masked_fill(padding, 0).unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(padding, 0.0).sum(-1)
    ### END SOLUTION


# %% check="sequence_log_probability"
def right_log_probability(logits, labels):
    return distributions.sequence_log_probability(logits, labels, alignment="encoder_decoder")


own = ["kdlab.distributions.sequence_log_probability", "kdlab.distributions.token_log_probabilities"]
checks.function(
    "sequence_log_probability",
    sequence_log_probability,
    right_log_probability,
    {
        "logits": torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], [[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]]]),
        "labels": torch.tensor([[0, 1], [2, -100]]),
    },
    fresh("logits", "labels", shape=(3, 4, 6)),
    mistakes=[
        mistakes.padding_counted,
        mistakes.mean_not_sum,
        mistakes.sign_flipped,
        mistakes.probabilities,
        mistakes.shifted,
        mistakes.softmax_twice,
        mistakes.softmax_over_wrong_axis,
    ],
    forbid=own,
    unit="nats",
)

# %% test="sequence_log_probability" points=3
halves = sequence_log_probability(torch.zeros(1, 3, 2), torch.tensor([[0, 1, -100]]))
assert abs(float(halves) + 1.3863) < 1e-3, "two halves: 2 log 0.5"
### BEGIN HIDDEN TESTS

for inputs in (
    fresh("logits", "labels", shape=(3, 4, 6)),
    fresh("logits", "labels", shape=(1, 2, 3)),
    fresh("logits", "labels", shape=(5, 7, 3), scale=500.0),
):
    checks.function(
        "sequence_log_probability",
        sequence_log_probability,
        right_log_probability,
        inputs,
        seeds=[101, 102, 103, 104],
        tolerance=Tolerance(1e-4, 2e-3),
        forbid=own,
        graded=True,
    )
### END HIDDEN TESTS

# %% [markdown]
# The teacher and the truth, for all six translations:

# %%
found = distributions.sequence_log_probability(
    logits_of_six, labels_of_six, alignment="encoder_decoder"
).exp()
for sentence, probability in zip(six, found.tolist(), strict=True):
    print(f"{sentence:27} teacher {probability:.3f}   truth {phrasebook.translations(source)[sentence]:.3f}")
print(f"{'all six':27} teacher {found.sum():.3f}   truth 1.000")

# %% [markdown]
# The teacher knows all six. What is missing to 1 it gives to sentences that the grammar does not have.
#
# This is $P_t$ itself: not the best translation, but a number for each.

# %% [markdown]
# ## How much of $P_t$ must be kept?
#
# One row of $P_t$ has as many numbers as $V$ has tokens: 800 here, 100,000 and more in large models, for
# every place of every sentence. Storing them all fills disks.
#
# But most are nearly 0. How many tokens, the most probable first, hold 99% of the probability, the
# *[mass](../00_welcome/00_welcome.ipynb#Glossary)*?

# %% [markdown]
# ### Exercise: tokens for a mass
#
# > `tokens_for_mass(logits, mass)` takes `[..., V]` and a number above 0 and below 1. It returns the smallest $n$
# > such that the $n$ most probable tokens have *at least* this probability together: `[...]`, integers.
# > The probabilities are `logits.softmax(-1)`.
#
# Sums that differ from the mass by rounding alone are not tested.
#
# By hand: probabilities 0.5, 0.3, 0.15, 0.05. Added up from the largest: 0.5, 0.8, 0.95, 1. A mass of 0.9
# takes 3 tokens, a mass of 0.4 takes 1.
#
# <details><summary>A hint</summary>
#
# `p.sort(-1, descending=True).values` has the largest first, and `.cumsum(-1)` adds up along the row. How
# many of these sums are still below the mass? You need one token more.
#
# </details>


# %% exercise="tokens_for_mass" minutes=8
def tokens_for_mass(logits, mass):
    ### BEGIN SOLUTION
    p = distributions.log_probabilities(logits).exp()
    held = p.sort(-1, descending=True).values.cumsum(-1)
    return (held < mass).sum(-1) + 1
    ### END SOLUTION


# %% check="tokens_for_mass"
checks.function(
    "tokens_for_mass",
    tokens_for_mass,
    kdlab.distributions.entries_for_mass,
    {"logits": torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.0, 0.9]]).log(), "mass": 0.85},
    fresh("logits", "mass", shape=(3, 4, 12)),
    mistakes=[
        mistakes.off_by_one,
        mistakes.counted_upwards,
        mistakes.softmax_twice,
        mistakes.softmax_over_wrong_axis,
    ],
    unit="tokens",
)

# %% test="tokens_for_mass" points=2
four = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
assert int(tokens_for_mass(four, 0.9)) == 3, "0.5, 0.3, 0.15, 0.05: 0.9 takes 3 tokens"
### BEGIN HIDDEN TESTS
for inputs in (
    fresh("logits", "mass", shape=(3, 4, 12)),
    fresh("logits", "mass", shape=(30,), scale=1.0, mass=0.99),
    fresh("logits", "mass", shape=(4, 9)),
    fresh("logits", "mass", shape=(2, 3, 2, 9), minus_infinity=True, mass=0.95),
):
    checks.function(
        "tokens_for_mass",
        tokens_for_mass,
        kdlab.distributions.entries_for_mass,
        inputs,
        seeds=[101, 102, 103, 104],
        graded=True,
    )
assert int(tokens_for_mass(torch.zeros(2), 0.5)) == 1, "at least 0.5: one of two equal tokens has it"
### END HIDDEN TESTS

# %% [markdown]
# For the teacher, at each place of *Wo ist die Bank?*:

# %%
for temperature in (1.0, 4.0):
    counts = distributions.entries_for_mass(logits[0], 0.99, temperature).tolist()
    print("T =", temperature, dict(zip([vocabulary[i] for i in ids], counts, strict=True)))

# %% [markdown]
# At $T = 1$ a handful of 800 is enough. At $T = 4$ nearly all are needed. So who stores a teacher's answers
# decides on the temperature first. Notebook 10 keeps such a short list on disk, and bounds the error.

# %% [markdown]
# ## Summary
#
# - $P_t = \mathrm{Pr}^t(\cdot|c,z)$ is one number for each output, not one output.
# - A model gives it token by token: softmax of logits, kept as logarithms, the largest logit subtracted
#   first.
# - Temperature changes how flat it is, never the order.
# - Entropy says how undecided it is. With several right translations it is not 0, and should not be.
# - A sentence's log-probability is a sum over its tokens; padding is left out.
# - A few tokens hold nearly all of it.

# %% [markdown]
# ## Where this stands, and what to read
#
# That a large model's whole output teaches more than its best answer is the idea of knowledge
# [distillation](../00_welcome/00_welcome.ipynb#Glossary).
# The word and the temperature are from Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural
# Network* (2015). Before that, Buciluă, Caruana and Niculescu-Mizil compressed ensembles into one small
# model: *Model Compression* (2006).
#
# For translation, word by word and by sentences: Kim and Rush, *Sequence-Level Knowledge Distillation*
# (2016).
#
# **Next:** `02_student_distribution`: the small model that is to learn this, and how to keep the teacher
# still.
