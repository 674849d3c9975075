"""A step, a loop and a writer that a student wrote, run in a small world that notes what they do.

Each `watched_...` takes a student's function and gives one of a seed alone, which builds a fresh world, runs the
function in it and returns what can be seen from outside. So answers are compared by what they do, however they are
written, and a usual mistake is such a function too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

Watched = Callable[[int], dict[str, Any]]
STEPS = 3  # of a watched step: what is left over from one shows in the next


def seeds(seed: int) -> Mapping[str, int]:
    """What a check draws for a watched function.

    >>> seeds(7)
    {'seed': 7}
    """
    return {"seed": seed}


def _of_seed(function: Callable[..., Any], run: Watched) -> Watched:
    """`run`, that still knows which function of the student's it is about: for the line where one stops."""
    # Of no function (an answer may be anything) there is nothing to know.
    watched = wraps(function)(run) if callable(function) else run
    parameter = inspect.Parameter("seed", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    watched.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return watched


# --- one step


class _Model(nn.Module):
    """Logits for the token that is read, with dropout on the way."""

    def __init__(self, dropout: float, vocabulary: int = 7, width: int = 6):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = 2 * self.head(self.dropout(self.words(batch["decoder_input_ids"])))
        return logits


def _batch() -> dict[str, Tensor]:
    labels = torch.randint(7, (3, 5))
    labels[1, 3:] = labels[2, 2:] = -100
    return {"decoder_input_ids": labels.clamp(min=0).roll(1, 1), "labels": labels}


def _kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> Tensor:
    """Forward KL, mean over the tokens that count. It detaches nothing: that is the step's business."""
    log_p_s, log_p_t = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    tokens = (log_p_t.exp() * (log_p_t - log_p_s)).sum(-1)
    return tokens.mean() if labels is None else tokens[labels != -100].mean()


def _number(loss: Any) -> float:
    """NaN where a step returns nothing."""
    value = loss.detach() if isinstance(loss, Tensor) else loss
    return float("nan") if value is None else float(value)


def watched_step(step: Callable[..., Any]) -> Watched:
    """Three steps of a student with dropout that comes from a validation: in eval mode, old gradients still there.

    `step(student, teacher, batch, loss, optimizer, max_norm)`. Seen are the losses that it returns and as what, the
    parameters that it leaves, and whether a gradient has reached the teacher.

    >>> def nothing(student, teacher, batch, loss, optimizer, max_norm):
    ...     return loss(student(batch), teacher(batch), batch["labels"])
    >>> seen = watched_step(nothing)(0)
    >>> seen["returned"], seen["teacher"], list(seen["losses"].shape)
    ('a tensor that keeps its graph', 'no gradient reaches it', [3])
    """

    def run(seed: int) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student, teacher = _Model(dropout=0.4).eval(), _Model(dropout=0.0).eval()
            batches = [_batch() for _ in range(STEPS)]
            for parameter in student.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer = torch.optim.SGD(student.parameters(), lr=0.7)
            losses = [step(student, teacher, batch, _kl, optimizer, 0.1) for batch in batches]
        has_graph = any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses)
        reached = any(parameter.grad is not None for parameter in teacher.parameters())
        return {
            "losses": torch.tensor([_number(loss) for loss in losses]),
            "returned": "a tensor that keeps its graph" if has_graph else "a number",
            "teacher": "a gradient reaches it" if reached else "no gradient reaches it",
            "parameters": nn.utils.parameters_to_vector(student.parameters()).detach(),
        }

    return _of_seed(step, run)


# --- the loop


def watched_loop(loop: Callable[..., Any]) -> Watched:
    """A run that ends in the middle of its third epoch, with two groups of parameters.

    `loop(step, epoch, updates, optimizer, learning_rate)`. Seen are the batches in their order, the learning rates of
    both groups at each step, and what the loop returns.

    >>> watched_loop(lambda step, epoch, *_: [step(batch) for batch in epoch(0)])(0)["batches"]
    ['epoch 0, batch 0', 'epoch 0, batch 1', 'epoch 0, batch 2']
    """

    def run(seed: int) -> dict[str, Any]:
        size = 3 + seed % 3
        updates = 2 * size + 1
        groups = [{"params": [torch.zeros(1)]}, {"params": [torch.ones(1)]}]
        optimizer = torch.optim.SGD(groups, lr=7.0)
        batches: list[Any] = []
        rates: list[float] = []

        def epoch(number: int) -> list[str]:
            return [f"epoch {number}, batch {(i + number + seed) % size}" for i in range(size)]

        def step(batch: Any) -> float:
            if len(batches) == 10 * updates:
                raise RuntimeError(f"{10 * updates} steps are made, {updates} are asked for")
            batches.append(batch)
            rates.extend(float(group["lr"]) for group in optimizer.param_groups)
            return 1.0 / (len(batches) + seed % 7)

        returned = loop(step, epoch, updates, optimizer, lambda i: 0.5 / (i + 1))
        return {"batches": batches, "learning rates": torch.tensor(rates), "returned": returned}

    return _of_seed(loop, run)


# --- the writer


def watched_writer(write: Callable[..., Any]) -> Watched:
    """Four targets of a made-up teacher over six tokens, of which 1 ends a target; one runs into the limit.

    `write(next_token, source, draw, end, most)`. Seen are the four targets, and how
    often `draw` was called.

    >>> def one_token(next_token, source, draw, end, most):
    ...     return [draw(next_token(source, [])), end]
    >>> watched_writer(one_token)(0)["limit 9"][1:]
    [1]
    """

    def run(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)

        def next_token(source: list[int], prefix: list[int]) -> Tensor:
            own = 0
            for token in [*source, 17, *prefix]:  # another distribution after every prefix
                own = (31 * own + int(token) + 1 + seed) % 1_000_003
            logits = 1.2 * torch.randn(6, generator=torch.Generator().manual_seed(own))
            logits[1] = 0.3  # an end now and then
            return logits.softmax(-1)

        calls = 0

        def draw(p: Tensor) -> int:
            nonlocal calls
            calls += 1
            return int(torch.multinomial(p, 1, generator=generator))

        def never_ends(source: list[int], prefix: list[int]) -> Tensor:
            p = next_token(source, prefix).clone()
            p[1] = 0.0
            return p / p.sum()

        source = [4, 2 + seed % 3, 5]
        targets = {f"limit {most}": write(next_token, source, draw, 1, most) for most in (9, 8, 7)}
        targets["no end"] = write(never_ends, [3, 4], draw, 1, 6)
        return {"calls of draw": calls, **targets}

    return _of_seed(write, run)
