# What the notebook shows of its longer runs; padding_runs.py made it.
release_files = ["runs.json"]

# %% [markdown]
# # 04 · The response-based loss
#
# The lab has a loss on paper. The app's student is trained on batches: sentences of different lengths, labels, a
# temperature. This notebook takes the loss there.
#
# It looks only at what the two models respond, their logits $z_t$ and $z_s$:
#
# $$L_{\mathrm{ResD}}(z_t, z_s) = L_R(z_t, z_s)$$
#
# ResD is short for response-based distillation, R for response. $L_R$ is a divergence between what the logits say. Here
# it is mostly KL.

# %% [markdown]
# Between notebook 03 and a training run stand four bugs. Nearly everybody has made them. None of them stops the
# program. The loss falls, and the student is worse than it could be.
#
# **The letter $z$.** With an index it stands for logits: $z_t$, $z_s$. Without one it is the user's input, as in
# $\mathrm{Pr}^t(\cdot|c,z)$. Both are common in books.

# %% [markdown]
# ## You will be able to
#
# - raise the temperature without weakening the teacher,
# - pair each row of logits with its label, for both kinds of model,
# - leave padding out, and notice where somebody did not,
# - get the same loss from a batch in one piece and in four,
# - mix the teacher's signal with references,
# - say how much of a loss can still be learnt.
#
# **Time:** 110 minutes. **You need:** forward KL and its gradient (notebook 03), `x[mask]` in PyTorch.

# %% parameters
profile = "auto"

# %%
import torch
from torch.nn import functional as F

import kdlab
from kdlab import comparison_plots, distributions, plots
from kdlab.classroom import checks, mistakes, mistakes_response, quiz, response_answers
from kdlab.classroom.checks import fresh
from kdlab.classroom.profile import choose_profile

profile = choose_profile(profile)
torch.set_num_threads(1)  # models as small as ours are fastest on one core

# %% [markdown]
# ## Two models and a batch
#
# The teacher is the phrasebook's, as in notebook 01. The student is small and has learnt nothing yet.

# %%
from kdlab.phrasebook_teacher import phrasebook_teacher
from kdlab.students import Architecture, new_model

phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=profile != "grade")
size = Architecture(d_model=48, encoder_layers=1, decoder_layers=1, ffn=192, dropout=0.0)
student = new_model(size, tokenizer, seed=0).eval()

# %% [markdown]
# Four sentences make a batch. `collate` pads them to one length. Where a sentence has ended, the label is `-100`.

# %%
from kdlab.text.batches import collate, encode_pairs
from kdlab.text.parallel import ParallelText


def batch_of(pairs):
    text = ParallelText([source for source, _ in pairs], [target for _, target in pairs])
    pad = tokenizer.pad_token_id
    return collate(encode_pairs(tokenizer, text), pad_token_id=pad, decoder_start_token_id=pad)


# %%
pairs = [("Where is the bank?", "Wo ist die Bank?")]
pairs += [(pair.source, pair.target) for pair in phrasebook.sample(3, seed=4)]
batch = batch_of(pairs)
batch["labels"]

# %%
from kdlab.model_io import target_logits

teacher_logits = teacher(batch)
with torch.no_grad():
    student_logits = target_logits(student, batch)
print("z_t", list(teacher_logits.shape), "z_s", list(student_logits.shape))

# %% [markdown]
# `[batch, length, V]`, with 800 tokens in $V$. That is all the loss will ever see.

# %% [markdown]
# ## First bug: the temperature's square
#
# At $T = 1$ most of $p_t$ lies on one or two tokens. What the teacher thinks of the rest is hardly there. A higher
# temperature shows it:
#
# $$p_t(v) = \frac{\exp(z_t(v) / T)}{\sum_j \exp(z_t(j) / T)}$$
#
# The student's $p_s$ is taken at the same $T$. At $T > 1$ it learns more about the rare tokens.

# %% [markdown]
# The gradient of KL says what the student is told: *raise these tokens, lower those*. Here are the ones to raise,
# after *Wo ist*, and how the push is shared among them.

# %%
from kdlab.classroom.slider import slider

place = 2  # the place after "Wo ist"; the first sentence of the batch
vocabulary = [tokenizer.decode([i]) for i in range(len(tokenizer))]


def pushed_up(temperature):
    p_t = distributions.log_probabilities(teacher_logits[0, place], temperature).exp()
    p_s = distributions.log_probabilities(student_logits[0, place], temperature).exp()
    push = (p_t - p_s).clamp(min=0)
    return (push / push.sum()).tolist()


# %%
def plot_push(temperatures):
    plot = plots.distributions(vocabulary, {f"T = {t}": pushed_up(t) for t in temperatures}, at_most=5)
    plot.axes[0].set_xlabel("share of the push")
    plot.alt_text = plot.alt_text.replace("Probability of the next word", "Share of the push upwards")
    return plot


plot_push([4.0, 1.0])

# %% [markdown]
# Move the slider. At which temperature do the two right words get less than half of the push? (No slider? You see
# the figure at $T = 2$, and the answer below.)

# %%
slider(lambda t: plot_push([t]), "T", [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0], start=2.0)

# %%
for t in (3.0, 4.0):
    print(f"T = {t}: the two right words get {sum(sorted(pushed_up(t))[-2:]):.2f} of the push")

# %% [markdown]
# So the answer is: between 3 and 4.

# %% [markdown]
# ### What it costs
#
# The gradient gets smaller, for two reasons:
#
# 1. The logits are divided by $T$. By the chain rule the gradient is $(p_s - p_t) / T$: one factor $1/T$.
# 2. At high $T$ both distributions are nearly flat. Since $\exp(z/T) \approx 1 + z/T$ ($z$ stands for a logit), their
#    difference $p_s - p_t$ shrinks as $1/T$ too.
#
# Together, at high $T$: $1/T^2$. So one multiplies the KL by $T^2$, and it keeps its weight.

# %% [markdown]
# ### Exercise: KL at a temperature
#
# $$T^2 \, \mathrm{KL}(p_t \| p_s), \qquad p_t = \operatorname{softmax}(z_t / T), \quad p_s =
# \operatorname{softmax}(z_s / T)$$
#
# > `tempered_kl(student_logits, teacher_logits, temperature)` takes two tensors `[..., V]` and a number > 0. It
# > returns one number for each place: `[...]`, in nats. All logits are finite. A gradient reaches `student_logits`
# > and never `teacher_logits`.
#
# By hand: $V$ of 2, $z_t$ = `[2, 0]`, $z_s$ = `[0, 0]`, $T = 2$. Then $p_t$ = 0.731, 0.269 and $p_s$ = 0.5, 0.5. KL is
# 0.731 log(0.731 / 0.5) + 0.269 log(0.269 / 0.5) = 0.111, and the answer 4 times that: 0.444.
#
# <details><summary>A hint</summary>
#
# `(logits / temperature).log_softmax(-1)` gives the logarithms. From there it is forward KL, as in notebook 03. The
# square is `temperature**2`. `teacher_logits.detach()` carries no gradient.
#
# </details>


# %% exercise="tempered_kl" minutes=8
def tempered_kl(student_logits, teacher_logits, temperature):
    ### BEGIN SOLUTION
    log_p_s = (student_logits / temperature).log_softmax(-1)
    log_p_t = (teacher_logits.detach() / temperature).log_softmax(-1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(-1)
    ### END SOLUTION


# %% check="tempered_kl"
from functools import partial

LOSSES = [
    "kdlab.losses.distillation_loss",
    "kdlab.losses.DistillationLoss",
    "kdlab.losses.forward_kl",
    "kdlab.losses.reverse_kl",
    "kdlab.losses.alpha_divergence",
]  # you write these: they raise while your function runs

checks.function(
    "tempered_kl",
    tempered_kl,
    partial(kdlab.forward_kl, reduction="none"),
    {
        "student_logits": torch.tensor([[0.0, 0.0], [1.0, 0.0]]),
        "teacher_logits": torch.tensor([[2.0, 0.0], [0.0, 3.0]]),
        "temperature": 2.0,
    },
    fresh("student_logits", "teacher_logits", "temperature"),
    mistakes=[
        mistakes.temperature_squared_missing,
        mistakes.temperature_not_squared,
        mistakes.temperature_squared_inverted,
        mistakes.teacher_not_tempered,
        mistakes.student_not_tempered,
        mistakes.temperature_inverted,
        mistakes.kl_reversed,
        mistakes.cross_entropy_not_kl,
        mistakes.mean_not_sum,
    ],
    unit="nats",
    gradient_to=["student_logits"],
    forbid=[*LOSSES, "kdlab.token_divergence.token_divergence"],
)

# %% test="tempered_kl" points=2
found = tempered_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
assert found.shape == (1,), "one number for each place"
assert abs(found.item() - 0.4440) < 1e-3, "the case by hand"
unequal = tempered_kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), 2.0)
assert abs(unequal.item() - 1.6313) < 1e-3, "4 times KL of 0.182, 0.818 and 0.622, 0.378"
### BEGIN HIDDEN TESTS
drawn = fresh("student_logits", "teacher_logits", "temperature")
checks.function(
    "tempered_kl",
    tempered_kl,
    partial(kdlab.forward_kl, reduction="none"),
    drawn,
    fresh("student_logits", "teacher_logits", "temperature", shape=(7, 11), temperature=5.0),
    fresh("student_logits", "teacher_logits", "temperature", shape=(2, 2, 3, 4), scale=4.0),
    seeds=(101, 102, 103, 104),
    gradient_to=["student_logits"],
    forbid=[
        "kdlab.losses.distillation_loss",
        "kdlab.losses.DistillationLoss",
        "kdlab.token_divergence.token_divergence",
    ],
    graded=True,
)
hidden = drawn(105)["student_logits"]
assert tempered_kl(hidden, hidden + 2.0, 3.0).abs().max() < 1e-4, "equal distributions: 0"
### END HIDDEN TESTS

# %% [markdown]
# From here on the notebook uses kdlab's functions, whatever yours do: a mistake costs one exercise. The next cell
# defines the divergence of each place without $T^2$:

# %%
from kdlab.divergences import ForwardKL
from kdlab.token_divergence import token_divergence


def plain_kl(student_logits, teacher_logits, temperature):
    """KL(p_t || p_s) at a temperature, without T^2: [..., V], [..., V] to [...], nats."""
    return token_divergence(ForwardKL(), student_logits, teacher_logits, temperature)


# %% [markdown]
# ### Exercise: measure the power
#
# Do not take $1/T^2$ on trust. If the gradient falls as $1/T^n$, then doubling $T$ divides it by $2^n$. So
#
# `n = log2( size(T) / size(2T) )`
#
# > `falls_as(student_logits, teacher_logits, temperature)` takes `[places, V]` twice and a number $T > 0$. It returns
# > $n$, a number. The gradient is that of `plain_kl(...).sum()` with respect to `student_logits`; its size is its
# > `.norm()`.
#
# By hand: a size of 0.8 at $T$ and of 0.2 at $2T$ gives $\log_2 4 = 2$.

# %% [markdown]
# <details><summary>A hint: by autograd</summary>
#
# `leaf = student_logits.clone().requires_grad_()` is a tensor to differentiate by;
# `torch.autograd.grad(value, leaf)[0]` is the gradient.
#
# </details>
#
# <details><summary>A hint: by formula</summary>
#
# Or use the closed form that stands above, under *What it costs*, with softmax at the temperature.
#
# </details>


# %% exercise="falls_as" minutes=10
def falls_as(student_logits, teacher_logits, temperature):
    ### BEGIN SOLUTION
    def size_at(t):
        leaf = student_logits.detach().clone().requires_grad_()
        value = plain_kl(leaf, teacher_logits, t).sum()
        return torch.autograd.grad(value, leaf)[0].norm()

    return torch.log2(size_at(temperature) / size_at(2 * temperature))
    ### END SOLUTION


# %% check="falls_as"
checks.function(
    "falls_as",
    falls_as,
    response_answers.gradient_power,
    fresh("student_logits", "teacher_logits", "temperature", shape=(3, 5)),
    mistakes=[
        mistakes_response.value_not_gradient,
        mistakes_response.chain_rule_missing,
        mistakes_response.temperature_squared_counted,
        mistakes_response.another_base,
        mistakes_response.ratio_not_power,
        mistakes.sign_flipped,
    ],
    tolerance=checks.Tolerance(1e-3, 1e-3),
)

# %% test="falls_as" points=2
z_s, z_t = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[3.0, 0.0, 1.0]])
assert abs(float(falls_as(z_s, z_t, 100.0)) - 2) < 0.05, "at a high temperature the gradient falls as 1/T^2"
### BEGIN HIDDEN TESTS
checks.function(
    "falls_as",
    falls_as,
    response_answers.gradient_power,
    fresh("student_logits", "teacher_logits", "temperature", shape=(3, 5)),
    fresh("student_logits", "teacher_logits", "temperature", shape=(6, 9), temperature=0.5),
    fresh("student_logits", "teacher_logits", "temperature", shape=(2, 7), temperature=20.0),
    seeds=(111, 112, 113),
    tolerance=checks.Tolerance(1e-3, 2e-3),
    graded=True,
)
hot = fresh("student_logits", "teacher_logits", shape=(4, 8))(114)
assert abs(float(falls_as(**hot, temperature=200.0)) - 2) < 0.05, "at a high temperature n is 2"
### END HIDDEN TESTS

# %% [markdown]
# Now on the real batch, over many temperatures:

# %%
counts = batch["labels"] != -100
z_s, z_t = student_logits[counts], teacher_logits[counts]
temperatures = [0.5, 1, 2, 4, 8, 16, 32]


def gradient_size(temperature):
    leaf = z_s.clone().requires_grad_()
    value = plain_kl(leaf, z_t, temperature).sum()
    return torch.autograd.grad(value, leaf)[0].norm().item()


# %%
sizes = [gradient_size(t) for t in temperatures]
both = {"plain": sizes, "times T^2": [t**2 * size for t, size in zip(temperatures, sizes)]}
comparison_plots.along_temperature(temperatures, both)

# %% [markdown]
# That is an untrained student's. From $T = 16$ on the second line is nearly level: there the rule holds. Between 2
# and 8 the gradient falls faster, while the probability leaves the two or three best tokens. $T^2$ is right in the
# limit, and a good habit before it.

# %% [markdown]
# Training may add a second part: the [cross-entropy](../00_welcome/00_welcome.ipynb#Glossary)
# on translations by people,
# *[references](../00_welcome/00_welcome.ipynb#Glossary)*.
# It has no $T$.
#
# ### Quiz
#
# The loss is half KL at the temperature, half cross-entropy on references. $T^2$ is forgotten, and $T$ goes from 1 to
# 16. What happens?
#
# - **A** nothing: the optimiser makes up for a smaller gradient
# - **B** the references take over: the teacher's part has lost almost all of its weight
# - **C** the teacher takes over: its part has become larger
# - **D** the training stops with an error

# %% quiz="t_squared" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="t_squared"
quiz.show(
    "t_squared",
    answer,
    {
        "A": "Adam makes up for a factor before the whole loss. Here one of two parts shrinks.",
        "B": "Its gradient is over two thousand times smaller. The other part's is not. The run looks fine.",
        "C": "A higher temperature makes the gradient of KL smaller. See the figure.",
        "D": "None of the four bugs raises an error. That is why they are met so often.",
    },
)

# %% [markdown]
# ## Second bug: rows and labels
#
# The loss compares place by place. Which row of logits belongs to which label?
#
# | model | it reads | row $i$ of its logits predicts | so |
# | --- | --- | --- | --- |
# | encoder-decoder, like ours | source; the labels, moved to the right by one | label $i$ | nothing to shift |
# | decoder-only, like most chat models | prompt and answer in one row, as they are | label $i + 1$ | shift by one |

# %% [markdown]
# The same pair of sentences as both kinds of batch. Look at what each model reads at place $i$, and at label $i$.

# %%
from kdlab.text.batches import Example
from kdlab.text.causal import collate_causal

examples = [Example([5, 6, 1], [7, 8, 1]), Example([5, 1], [9, 1])]  # token 1 ends a sentence, 0 is padding
two_rows = collate(examples, pad_token_id=0, decoder_start_token_id=0)
print("encoder-decoder reads\n", two_rows["decoder_input_ids"], "\nlabels\n", two_rows["labels"])

# %%
one_row = collate_causal(examples, pad_token_id=0)
print("decoder-only reads\n", one_row["input_ids"], "\nlabels\n", one_row["labels"])

# %% [markdown]
# In the decoder-only batch the prompt has labels `-100` as well. The student should learn to answer, not to
# write the user's questions.
#
# `-100` says: this place does not count. It says so of the *[label](../00_welcome/00_welcome.ipynb#Glossary)*.
# Shift the labels, and it moves with them.

# %% [markdown]
# ### Exercise: what counts
#
# > `counted(logits, labels, kind)` takes `[batch, length, V]`, integers `[batch, length]`, and `"encoder_decoder"` or
# > `"causal"` (decoder-only). It returns a pair: the rows of logits that count, `[n, V]`, and the labels that they
# > predict, `[n]`, sentence after sentence.
# >
# > - `"encoder_decoder"`: row $i$ goes with label $i$. `"causal"`: row $i$ goes with label $i + 1$.
# > - A place counts if its label is not `-100`. Token 0 is a token like any other.

# %% [markdown]
# By hand, one sentence of 4 places, with rows a, b, c, d and labels `[-100, 7, 1, -100]`:
#
# | kind | pairs that count |
# | --- | --- |
# | `"encoder_decoder"` | b with 7, c with 1 |
# | `"causal"` | a with 7, b with 1 |
#
# Row d of the causal one predicts what would come after the end. No label is left for it.
#
# <details><summary>A hint: the shift</summary>
#
# `logits[:, :-1]` has all rows but the last of each sentence, `labels[:, 1:]` all labels but the first. They are
# equally long.
#
# </details>
#
# <details><summary>A hint: the mask</summary>
#
# `mask = labels != -100` is `[batch, length]`. `logits[mask]` takes the rows where it is true: `[n, V]`.
#
# </details>


# %% exercise="counted" minutes=12
def counted(logits, labels, kind):
    ### BEGIN SOLUTION
    if kind == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    mask = labels != -100
    return logits[mask], labels[mask]
    ### END SOLUTION


# %% check="counted"
def draw_batch(kind):
    def draw(seed):
        drawn = dict(fresh("logits", "labels", shape=(3, 6, 4))(seed))
        for row in range(3 if kind == "causal" else 0):  # prompts of 1, 2, 3 tokens
            drawn["labels"][row, : row + 1] = -100
        return {**drawn, "kind": kind}

    return draw


four_places = {"logits": torch.arange(8.0).reshape(1, 4, 2), "labels": torch.tensor([[-100, 1, 0, -100]])}
checks.function(
    "counted",
    counted,
    response_answers.counted_pairs,
    {**four_places, "kind": "encoder_decoder"},
    {**four_places, "kind": "causal"},
    draw_batch("encoder_decoder"),
    draw_batch("causal"),
    mistakes=[
        mistakes_response.shifted_never,
        mistakes_response.shifted_always,
        mistakes_response.mask_before_shift,
        mistakes_response.shifted_after_mask,
        mistakes_response.shifted_backwards,
        mistakes_response.padding_kept,
        mistakes_response.token_0_left_out,
    ],
    forbid=["kdlab.distributions.align", "kdlab.model_io.aligned", "kdlab.model_io.target_labels"],
)

# %% test="counted" points=3
rows, tokens = counted(torch.eye(4)[None], torch.tensor([[-100, 7, 1, -100]]), "causal")
assert list(rows.shape) == [2, 4], "two places count"
assert rows.argmax(-1).tolist() == [0, 1], "the rows a and b"
assert tokens.tolist() == [7, 1], "the labels that count, in order"


### BEGIN HIDDEN TESTS
def hidden_batch(seed):
    drawn = dict(fresh("logits", "labels", shape=(4, 7, 3))(seed))
    drawn["labels"][seed % 4, : 1 + seed % 3] = -100
    return {**drawn, "kind": ("causal", "encoder_decoder")[seed % 2]}


checks.function(
    "counted",
    counted,
    response_answers.counted_pairs,
    hidden_batch,
    seeds=range(120, 130),
    forbid=["kdlab.distributions.align", "kdlab.model_io.aligned", "kdlab.model_io.target_labels"],
    graded=True,
)
leaf = torch.randn(2, 3, 4).requires_grad_()
counted(leaf, torch.tensor([[0, 2, -100], [1, -100, -100]]), "encoder_decoder")[0].sum().backward()
assert leaf.grad.sum().item() == 12, "a gradient of 1 for each entry of the three rows that count"
### END HIDDEN TESTS

# %% [markdown]
# What does the mistake look like? Score the teacher's rows on the right labels, and on labels that are shifted
# once too often. (`F.cross_entropy` is the mean of $- \log p_t(y)$ over rows and labels $y$.)

# %%
right_rows, right_tokens = teacher_logits[counts], batch["labels"][counts]
late = batch["labels"][:, 1:]
print("right:", F.cross_entropy(right_rows, right_tokens))
print("shifted:", F.cross_entropy(teacher_logits[:, :-1][late != -100], late[late != -100]))

# %% [markdown]
# A good model seems to know nothing (the exact teacher even gets `inf`). And KL alone would not notice: it compares
# the two models, and looks at the labels only for `-100`. In a decoder-only batch, KL with an unshifted mask leaves out
# the row that predicts the first token of the answer, and counts the row after its end.

# %% [markdown]
# ### Quiz
#
# A decoder-only batch is padded with the end token, 1. The labels were made by `labels[labels == 1] = -100`. What
# will the student not learn?
#
# - **A** to begin an answer
# - **B** to end one: the real end tokens do not count either
# - **C** rare words
# - **D** nothing is lost: padding must not count

# %% quiz="end_or_padding" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "B"
### END SOLUTION

# %% check="end_or_padding"
quiz.show(
    "end_or_padding",
    answer,
    {
        "A": "The first token of each answer still has its label.",
        "B": "It never sees that an answer ends, so it goes on. Masks come from lengths, not from token ids.",
        "C": "A rare word has another id than 1, so it keeps its label.",
        "D": "Padding must not count. But here the mask takes the one real end token of each answer along.",
    },
)

# %% [markdown]
# ## Third bug: padding is counted
#
# After the end of a sentence a teacher still has logits. It was never trained there.

# %%
entropy = distributions.entropy(teacher_logits)
print("nats a token:", entropy[counts].mean(), " nats a padded place:", entropy[~counts].mean())

# %% [markdown]
# What it says there means nothing. So the mean goes over the tokens alone: the sum over the places that count,
# divided by how many count.
#
# ### Exercise: the mean over the tokens
#
# > `token_mean(losses, labels)` takes `[batch, length]`, nats, and integers `[batch, length]`. It returns one number, a
# > tensor `[]`: the mean of the losses whose label is not `-100`.
# >
# > - A loss at a padded place may be anything, even `inf` or `nan`. It has no influence.
# > - If no place counts, the answer is 0.

# %% [markdown]
# By hand: losses `[[1, 3], [5, inf]]`, labels `[[6, 1], [1, -100]]`. Three places count: (1 + 3 + 5) / 3 = 3.
#
# The second rule is for large batches that are cut into pieces: a piece may be all padding, and one `nan` spoils
# the whole update.
#
# <details><summary>A hint</summary>
#
# `0 * inf` is `nan`, so a mask cannot be multiplied in. Select with it: `losses[mask]`. The sum of nothing is 0.
#
# </details>
#
# <details><summary>A hint: no place counts</summary>
#
# `.sum().clamp(min=1)` of the mask is a number that one can always divide by.
#
# </details>


# %% exercise="token_mean" minutes=8
def token_mean(losses, labels):
    ### BEGIN SOLUTION
    mask = labels != -100
    return losses[mask].sum() / mask.sum().clamp(min=1)
    ### END SOLUTION


# %% check="token_mean"
def infinite_padding(seed):
    drawn = fresh("losses", "labels", shape=(3, 4, 5))(seed)
    return {**drawn, "losses": drawn["losses"].masked_fill(drawn["labels"] == -100, torch.inf)}


def all_padding(seed):
    drawn = fresh("losses", "labels", shape=(2, 3, 5))(seed)
    return {**drawn, "labels": torch.full_like(drawn["labels"], -100)}


checks.function(
    "token_mean",
    token_mean,
    response_answers.token_mean,
    {"losses": torch.tensor([[1.0, 3.0], [5.0, 9.0]]), "labels": torch.tensor([[6, 1], [1, -100]])},
    fresh("losses", "labels", shape=(3, 4, 5)),
    infinite_padding,
    mistakes=[
        mistakes.padding_counted,
        mistakes.padding_in_denominator,
        mistakes.mean_over_batch,
        mistakes.sum_not_mean,
        mistakes_response.padding_times_zero,
    ],
    unit="nats",
    gradient_to=["losses"],
)
checks.function(
    "token_mean where no place counts",
    token_mean,
    response_answers.token_mean,
    all_padding,
    mistakes=[mistakes_response.nothing_counts, mistakes.padding_counted],
    unit="nats",
)

# %% test="token_mean" points=2
three = token_mean(torch.tensor([[1.0, 3.0], [5.0, torch.inf]]), torch.tensor([[6, 1], [1, -100]]))
assert abs(float(three) - 3) < 1e-6, "(1 + 3 + 5) / 3"


### BEGIN HIDDEN TESTS
def hidden_padding(value):
    def draw(seed):
        drawn = fresh("losses", "labels", shape=(4, 6, 5))(seed)
        return {**drawn, "losses": drawn["losses"].masked_fill(drawn["labels"] == -100, value)}

    return draw


checks.function(
    "token_mean",
    token_mean,
    response_answers.token_mean,
    fresh("losses", "labels", shape=(3, 4, 5)),
    hidden_padding(torch.inf),
    hidden_padding(torch.nan),
    seeds=(131, 132, 133),
    gradient_to=["losses"],
    graded=True,
)
assert float(token_mean(torch.ones(2, 3), torch.full((2, 3), -100))) == 0, "no place counts: 0"
one = token_mean(torch.tensor([[5.0, 8.0]]), torch.tensor([[-100, 1]]))
assert abs(float(one) - 8) < 1e-6, "one place counts: its loss"
### END HIDDEN TESTS

# %% [markdown]
# ### An apparently better method
#
# A colleague has an idea: "The teacher answers at every place. In my batches 40% are padding, and we throw these
# answers away. I train on all of them." The students are alike in everything else.


# %%
def every_place(student_logits, teacher_logits, labels):
    return kdlab.forward_kl(student_logits, teacher_logits)  # without labels all places count


methods = {"masked": kdlab.forward_kl, "every place": every_place}

# %% [markdown]
# Three students of each kind were trained beforehand, one for each seed. `runs.json` holds what came out, and says
# how it was made. Each student is measured on 256 new sentences, in two ways: KL as the mean over all places, padding
# counted, and as the mean over the tokens.

# %%
import json
from pathlib import Path

record = json.loads(Path("runs.json").read_text(encoding="utf-8"))
print(record["updates"], "updates,", record["sentences"], "sentences,", record["machine"])


def over_seeds(measure):
    return {name: [run[measure] for run in record["runs"] if run["method"] == name] for name in methods}


# %%
comparison_plots.methods_by_measure(
    {"padding counted": over_seeds("kl_every_place"), "tokens alone": over_seeds("kl_to_teacher")},
    unit="KL to the teacher, nats",
)

# %% [markdown]
# Each circle is one seed. With padding counted the colleague's method wins by far. On the tokens it loses, with every
# seed. And tokens are what the user of the app reads.
#
# Why? These students imitate the teacher's noise after the end, and pay for it on the tokens. The first measure
# rewards just that. Nobody had asked the masked students about padding.

# %% [markdown]
# Once more, live and small: one student of each kind, after a few updates. Both still know little. `short_run` is a
# training loop; you write your own in notebook 05.

# %%
from kdlab.short_run import short_run, shuffled_batches

updates, sentences = (1, 8) if profile == "grade" else (60, 1000)


def batches_of(count, seed):
    pairs = [(pair.source, pair.target) for pair in phrasebook.sample(count, seed)]
    lengths = [len(target) for _, target in pairs]
    return [
        batch_of([pairs[i] for i in row]) for row in shuffled_batches(lengths, 32, seed=seed, alike=False)
    ]


training = (batches_of(sentences, seed=5) * 10)[:updates]
held_out = batches_of(8 if profile == "grade" else 64, seed=6)


# %%
@torch.no_grad()
def measured(student, padding):
    """Mean KL over the places of all held-out sentences: with padding, or of the tokens alone."""
    values = []
    for one in held_out:
        kl = kdlab.forward_kl(target_logits(student, one), teacher(one), reduction="none")
        values.append(kl.flatten() if padding else kl[one["labels"] != -100])
    return torch.cat(values).mean().item()  # all places together: batches differ in length


students = {name: new_model(size, tokenizer, seed=0) for name in methods}
for name, loss in methods.items():
    short_run(students[name], teacher, training, loss, learning_rate=5e-3)

# %%
live = {
    "padding counted": {name: [measured(one, padding=True)] for name, one in students.items()},
    "tokens alone": {name: [measured(one, padding=False)] for name, one in students.items()},
}

# %%
comparison_plots.methods_by_measure(live, unit=f"KL after {updates} updates, nats")

# %% [markdown]
# ### Quiz
#
# A report says: "Our method halves the validation loss." It pads all sentences to 128 tokens and averages over
# every place. What do you know?
#
# - **A** it is better: half the loss is half the loss
# - **B** it is worse: padding was counted
# - **C** nothing yet: most places are padding, so ask for the mean over the tokens
# - **D** it is as good as before: padding changes both methods alike

# %% quiz="better_method" points=1
answer = None  # "A", "B", "C" or "D"
### BEGIN SOLUTION
answer = "C"
### END SOLUTION

# %% check="better_method"
quiz.show(
    "better_method",
    answer,
    {
        "A": "So it was with the colleague's students, and on the tokens they were worse.",
        "B": "It may be better all the same. The number does not tell.",
        "C": "The mean says how both do on padding, above all. On the tokens either may be ahead.",
        "D": "It does not: a method that trains on padding gains there, and another one cannot.",
    },
)

# %% [markdown]
# ## Fourth bug: the mean of means
#
# A batch that is too large for the memory goes through the model in *pieces*. The gradients of the pieces add up, and
# then the student is updated once. This is called gradient accumulation.
#
# It should change nothing. Does it? Take a very short sentence and a very long one.

# %%
by_length = sorted(phrasebook.sample(200, seed=7), key=lambda pair: len(pair.target))
uneven = batch_of([(pair.source, pair.target) for pair in (by_length[0], by_length[-1])])
with torch.no_grad():
    learning = target_logits(students["masked"], uneven)  # a student that has learnt a little
triple = learning, teacher(uneven), uneven["labels"]

# %%
whole = kdlab.forward_kl(*triple)
means = torch.stack([kdlab.forward_kl(*piece) for piece in zip(*(part.split(1) for part in triple))])
print("in one piece", whole, "\nthe two pieces' means", means, "\nmean of these", means.mean())

# %% [markdown]
# Each piece was divided by its own number of tokens. So a token in a short sentence weighs more. The remedy: every
# piece is divided by the number of tokens *of the whole batch*.
#
# ### Exercise: shares of a batch
#
# > `shares(pieces)` takes a list of pairs `(losses, labels)`, each `[sentences, length]`; they are the pieces of one
# > batch. It returns a list of as many numbers, tensors `[]`: the share of each piece. Together they are the mean over
# > all tokens of the batch that count. No loss is infinite here.

# %% [markdown]
# By hand: one piece has the losses 1, 1, 1, another the loss 5. The mean over the four tokens is 8 / 4 = 2. The
# shares are 3 / 4 and 5 / 4. (The mean of the means would be 3.)
#
# <details><summary>A hint</summary>
#
# Two rounds over the list: in the first count the tokens of all pieces, in the second divide each piece's sum by
# that.
#
# </details>


# %% exercise="shares" minutes=10
def shares(pieces):
    ### BEGIN SOLUTION
    tokens = sum((labels != -100).sum() for _, labels in pieces)
    return [losses[labels != -100].sum() / tokens for losses, labels in pieces]
    ### END SOLUTION


# %% check="shares"
def asked_shares(losses, labels, sizes):
    """The answer for a batch that is cut into pieces of so many sentences."""
    found = shares(list(zip(losses.split(sizes), labels.split(sizes))))
    return torch.stack(list(found)) if isinstance(found, (list, tuple)) else found


def draw_pieces(seed):
    return {**fresh("losses", "labels", shape=(4, 6, 5))(seed), "sizes": [1, 2, 1]}


checks.function(
    "shares",
    asked_shares,
    response_answers.shares_of_batch,
    {
        "losses": torch.tensor([[1.0, 1.0, 1.0], [5.0, 7.0, 7.0]]),
        "labels": torch.tensor([[4, 3, 1], [1, -100, -100]]),
        "sizes": [1, 1],
    },
    draw_pieces,
    mistakes=[
        mistakes_response.mean_of_means,
        mistakes_response.means_added,
        mistakes_response.divided_by_sentences,
        mistakes.padding_counted,
        mistakes.padding_in_denominator,
        mistakes_response.sum_of_piece,
    ],
    unit="nats",
    gradient_to=["losses"],
)

# %% test="shares" points=3
two = shares([(torch.ones(1, 3), torch.tensor([[4, 3, 1]])), (torch.tensor([[5.0]]), torch.tensor([[1]]))])
assert len(two) == 2, "one share for each piece"
assert [round(float(share), 4) for share in two] == [0.75, 1.25], "3 / 4 and 5 / 4"


### BEGIN HIDDEN TESTS
def hidden_answer(losses, labels, sizes):
    return torch.stack(list(shares(list(zip(losses.split(sizes), labels.split(sizes))))))


def hidden_pieces(seed):
    drawn = dict(fresh("losses", "labels", shape=(6, 7, 5))(seed))
    if seed % 2:
        drawn["labels"][0] = -100  # a piece may be all padding
    return {**drawn, "sizes": [[1, 2, 3], [1, 5], [2, 1, 1, 2]][seed % 3]}


checks.function(
    "shares",
    hidden_answer,
    response_answers.shares_of_batch,
    hidden_pieces,
    seeds=range(140, 149),
    gradient_to=["losses"],
    graded=True,
)
alone = shares([(torch.tensor([[2.0, 4.0]]), torch.tensor([[3, 1]]))])
assert abs(float(alone[0]) - 3) < 1e-6, "a batch in one piece: the mean over its tokens"
### END HIDDEN TESTS

# %% [markdown]
# In kdlab and in transformers' Trainer the number of tokens of the whole batch is called `num_items_in_batch`:

# %%
items = int((uneven["labels"] != -100).sum())
pieces = zip(*(part.split(1) for part in triple))
parts = [kdlab.forward_kl(*piece, num_items_in_batch=items) for piece in pieces]
print("in one piece", whole, "\nboth shares together", sum(parts))

# %% [markdown]
# ## Two signals in one loss
#
# Where there are references, a student may learn from them too. The weight is $\alpha$, in code `ce_weight`:
#
# $$(1 - \alpha) \, T^2 \, \mathrm{KL}(p_t \| p_s) + \alpha \, \mathrm{CE}$$
#
# $\mathrm{CE}$ is the cross-entropy of the labels, $- \log p_s(y)$. Both parts are means over the tokens that count. A
# reference has no temperature: in CE $p_s$ is at $T = 1$.

# %% [markdown]
# Why $T^2$ again? Now two parts stand beside each other. It keeps $\alpha$ meaning the same at every temperature.
#
# ### Exercise: the mix
#
# > `mixed_loss(student_logits, teacher_logits, labels, temperature, ce_weight)` takes `[batch, length, V]` twice,
# > integers `[batch, length]` and two numbers. It returns one number, a tensor `[]`.
# >
# > - Row $i$ goes with label $i$. Both parts are means over the tokens that count, the same for both.
# > - $T^2$ multiplies KL alone.
#
# `plain_kl` from above is yours to use, and `F.cross_entropy(rows, tokens)`: rows `[n, V]` and tokens `[n]` to their
# mean.

# %% [markdown]
# By hand: KL at the temperature is 0.1, $T = 2$, cross-entropy 0.8 and $\alpha = 0.25$. The loss is 0.75 · 4 · 0.1 +
# 0.25 · 0.8 = 0.5.
#
# <details><summary>A hint</summary>
#
# First throw away what does not count, from all three tensors, with one mask. Then both parts are plain means.
#
# </details>


# %% exercise="mixed_loss" minutes=12
def mixed_loss(student_logits, teacher_logits, labels, temperature, ce_weight):
    ### BEGIN SOLUTION
    mask = labels != -100
    rows, tokens = student_logits[mask], labels[mask]
    divergence = temperature**2 * plain_kl(rows, teacher_logits[mask], temperature).mean()
    return (1 - ce_weight) * divergence + ce_weight * F.cross_entropy(rows, tokens)
    ### END SOLUTION


# %% check="mixed_loss"
checks.function(
    "mixed_loss",
    mixed_loss,
    kdlab.distillation_loss,
    fresh("student_logits", "teacher_logits", "labels", "temperature", "ce_weight"),
    mistakes=[
        mistakes.temperature_squared_missing,
        mistakes.temperature_not_squared,
        mistakes.cross_entropy_scaled,
        mistakes.cross_entropy_tempered,
        mistakes.weights_swapped,
        mistakes.divergence_unweighted,
        mistakes.weights_missing,
        mistakes.padding_counted,
        mistakes_response.padding_in_divergence,
        mistakes.mean_over_batch,
        mistakes.sum_not_mean,
    ],
    unit="nats",
    gradient_to=["student_logits"],
    forbid=LOSSES,
)

# %% test="mixed_loss" points=3
small = torch.tensor([[[0.0, 2.0], [1.0, 0.0]]])
half = mixed_loss(small, small, torch.tensor([[0, -100]]), 3.0, 0.5)
assert abs(float(half) - 1.0635) < 1e-3, "equal models: half of the cross-entropy 2.127 is left"
other = torch.tensor([[[1.0, 0.0], [9.0, 0.0]]])
mixed = mixed_loss(small, other, torch.tensor([[0, -100]]), 2.0, 0.25)
assert abs(float(mixed) - 1.3504) < 1e-3, "0.75 times 4 times KL of 0.273, and 0.25 times 2.127"
### BEGIN HIDDEN TESTS
names = ("student_logits", "teacher_logits", "labels", "temperature", "ce_weight")
checks.function(
    "mixed_loss",
    mixed_loss,
    kdlab.distillation_loss,
    fresh(*names),
    fresh(*names, shape=(4, 6, 9), temperature=4.0),
    fresh(*names, ce_weight=0.0),
    fresh(*names, ce_weight=1.0),
    seeds=(151, 152, 153),
    gradient_to=["student_logits"],
    forbid=["kdlab.losses.DistillationLoss", "kdlab.losses.forward_kl"],
    graded=True,
)
one = fresh(*names, ce_weight=1.0)(154)
none_counts = one["labels"] == -100
moved = one["student_logits"].masked_fill(none_counts.unsqueeze(-1), 7.0)
assert torch.isclose(mixed_loss(**one), mixed_loss(**{**one, "student_logits": moved})), (
    "padding has no influence"
)
### END HIDDEN TESTS

# %% [markdown]
# With kdlab it is one call. It knows $T^2$, leaves padding out, and takes `num_items_in_batch`. The shift is yours:
# `distributions.align(logits, labels, "causal")` before the call. Here is the loss of the untrained student:

# %%
kdlab.distillation_loss(student_logits, teacher_logits, batch["labels"], temperature=2.0, ce_weight=0.25)

# %% [markdown]
# ## How low can it go?
#
# Many programs do not compute KL. They use the cross-entropy between the two distributions, $- \sum_v p_t(v) \log
# p_s(v)$: its gradient is the same. But its value is not:
#
# $$\mathrm{CE}(p_t, p_s) = H(p_t) + \mathrm{KL}(p_t \| p_s)$$
#
# The teacher's entropy $H$ does not depend on the student. So CE cannot go below it. KL can reach 0.

# %% [markdown]
# Let a student learn six translations of one sentence by heart, and watch both.

# %%
six = batch_of([("Where is the bank?", y) for y in phrasebook.translations("Where is the bank?")])
kept = six["labels"] != -100
floor = distributions.entropy(teacher(six))[kept].mean().item()

parrot = new_model(size, tokenizer, seed=0)
kl = short_run(
    parrot, teacher, [six] * (1 if profile == "grade" else 160), kdlab.forward_kl, learning_rate=8e-3
)

# %%
shown = range(len(kl) // 4, len(kl), 5)  # before that both fall from above 6
plots.validation_curves(
    {
        "cross-entropy": [(update, kl[update] + floor) for update in shown],
        "KL": [(update, kl[update]) for update in shown],
    },
    {"the teacher's entropy": floor},
    measure="loss, nats a token",
)

# %% [markdown]
# The circles mark the lowest values. The same student, the same run, two numbers. Who sees only the upper curve may
# think that the student has stopped learning far from its goal. It has arrived.
#
# (This floor is for the teacher's *distribution*. Cross-entropy on single references can fall below it, once a
# student knows them by heart.)

# %% [markdown]
# ### Exercise: what is left to learn
#
# A run reports its cross-entropy to the teacher's distribution. How many nats of it can still be
# learnt?
#
# > `left_to_learn(cross_entropy, teacher_logits, labels)` takes a number, `[batch, length, V]` and integers
# > `[batch, length]`. `cross_entropy` is the mean over the tokens that count, in nats, at $T = 1$; the logits are those
# > of the same batch. It returns the student's mean KL on them: a number.
#
# `distributions.entropy(logits)` gives $H$ of each place: `[batch, length]`.
#
# By hand: the cross-entropy is 0.9. Three places, of entropies 0.6, 0.2 and 1.5, and the last one is padding. $H$ is
# 0.4, so 0.5 is left.
#
# <details><summary>A hint</summary>
#
# Solve the identity for KL. The mean of $H$ goes over the same tokens as that of CE.
#
# </details>


# %% exercise="left_to_learn" minutes=6
def left_to_learn(cross_entropy, teacher_logits, labels):
    ### BEGIN SOLUTION
    entropy = distributions.entropy(teacher_logits)
    return cross_entropy - entropy[labels != -100].mean()
    ### END SOLUTION


# %% check="left_to_learn"
def draw_run(seed):
    drawn = fresh("teacher_logits", "labels", shape=(3, 4, 6))(seed)
    return {"cross_entropy": 1.5 + 0.25 * (seed % 5), **drawn}


checks.function(
    "left_to_learn",
    left_to_learn,
    response_answers.left_to_learn,
    draw_run,
    mistakes=[
        mistakes_response.entropy_added,
        mistakes_response.entropy_summed,
        mistakes_response.entropy_in_bits,
        mistakes_response.entropy_of_mean,
        mistakes_response.entropy_alone,
        mistakes_response.entropy_ratio,
        mistakes.padding_counted,
        mistakes.sign_flipped,
    ],
    unit="nats",
)

# %% test="left_to_learn" points=2
rest = left_to_learn(1.0, torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.tensor([[0, -100]]))
assert abs(float(rest) - 0.3069) < 1e-3, "log 2 of the cross-entropy 1.0 is the teacher's own"
### BEGIN HIDDEN TESTS
for seed in range(160, 168):
    names = ("student_logits", "teacher_logits", "labels")
    drawn = fresh(*names, shape=(3 + seed % 2, 5, 7), scale=1.0 + seed % 3)(seed)
    kept = drawn["labels"] != -100
    p_t = drawn["teacher_logits"][kept].softmax(-1)
    ce = -(p_t * drawn["student_logits"][kept].log_softmax(-1)).sum(-1).mean().item()
    rest = float(left_to_learn(ce, drawn["teacher_logits"], drawn["labels"]))
    assert abs(rest - kdlab.forward_kl(**drawn).item()) < 1e-3, "what is left is not right"
### END HIDDEN TESTS

# %% [markdown]
# For our student from the start of the notebook, which has learnt nothing:

# %%
divergence = kdlab.forward_kl(student_logits, teacher_logits, batch["labels"])
own = distributions.entropy(teacher_logits)[counts].mean()
print("cross-entropy", divergence + own, "= entropy", own, "+ KL", divergence)

# %% [markdown]
# Nearly all of it can still be learnt.

# %% [markdown]
# ## Summary
#
# - $L_{\mathrm{ResD}}(z_t, z_s) = L_R(z_t, z_s)$: the loss compares logits and nothing else.
# - Temperature: the gradient falls as $1/T^2$ at high $T$. Multiply by $T^2$, or another part takes over.
# - Labels: a decoder-only model needs a shift, an encoder-decoder model does not. `-100` moves with the label.
# - Padding: leave it out of the sum and of the count, in training and in what you report.
# - Accumulation: divide every piece by the tokens of the whole batch.
# - The mix: $T^2$ for KL, cross-entropy at $T = 1$, the same tokens in both.
# - $\mathrm{CE} = H + \mathrm{KL}$: CE stops at the teacher's entropy, KL at 0.

# %% [markdown]
# ## Where this stands, and what to read
#
# **The app.** The lab can now trust a loss that it reads. When a vendor shows a curve, the team asks: which places,
# which mean, which floor?
#
# **In the literature.** Hinton, Vinyals and Dean (2015) have the temperature, $T^2$ and the mix. Kim and Rush (2016)
# do it word by word for translation. Sanh and others (2019), DistilBERT, use the mix for a language model. Gou and
# others (2021), a survey, call it response-based distillation, beside feature-based and relation-based. The mean of
# means under accumulation stood in widely used training libraries until 2024.
#
# **Next:** `05_training_objective`: the loop around this loss, a fair baseline, and what to do when a loss stays
# high.
