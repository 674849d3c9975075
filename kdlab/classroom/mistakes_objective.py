"""The usual wrong answers of notebook 05, by name: steps, loops and writers, watched as a student's are.

A mistake that is made in several ways has several functions. See `kdlab.classroom.watched`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from kdlab.classroom.recognition import Call, Mistake, mistake
from kdlab.classroom.watched import Watched, watched_loop, watched_step, watched_writer

Function = Callable[..., Any]


def done_as(sentence: str, watch: Callable[[Function], Watched], *functions: Function) -> Mistake:
    """A mistake that is a function like the student's.

    >>> empty = done_as("nothing is written", watched_writer, lambda *_: [])
    >>> from kdlab.classroom.recognition import Call
    >>> [seen["no end"] for seen in empty.answers(Call(watched_writer(lambda *_: [1]), {"seed": 0}))]
    [[]]
    """
    return Mistake(sentence, lambda call: (watch(function)(call["seed"]) for function in functions))


# --- the step


def _step(
    *,
    mode: str = "train",
    teacher_grad: bool = False,
    swapped: bool = False,
    labels: bool = True,
    order: str = "zero backward clip step",
    by_value: bool = False,
    returned: str = "number",
) -> Function:
    """A step with something done in another way."""

    def step(student, teacher, batch, loss, optimizer, max_norm):  # type: ignore[no-untyped-def]
        if mode == "train":
            student.train()
        with torch.set_grad_enabled(teacher_grad):
            z_t = teacher(batch)
        z_s = student(batch)
        logits = (z_t, z_s) if swapped else (z_s, z_t)
        value = loss(*logits, batch["labels"]) if labels else loss(*logits)
        clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
        parts: dict[str, Callable[[], Any]] = {
            "zero": optimizer.zero_grad,
            "backward": value.backward,
            "clip": lambda: clip(student.parameters(), max_norm),
            "step": optimizer.step,
        }
        for part in order.split():
            parts[part]()
        return value if returned == "tensor" else value.item()

    return step


zero_grad_forgotten = done_as(
    "old gradients are still there when the optimizer steps, and are added to the new ones",
    watched_step,
    _step(order="backward clip step"),
    _step(order="backward clip step zero"),
)
not_clipped = done_as(
    "the optimizer gets a gradient that is longer than max_norm",
    watched_step,
    _step(order="zero backward step"),
    _step(order="zero backward step clip"),
    _step(order="zero clip backward step"),
)
clipped_by_value = done_as(
    "each entry of the gradient was cut on its own: max_norm is for the length of the whole",
    watched_step,
    _step(by_value=True),
)
student_in_eval_mode = done_as(
    "the student is still in eval mode: its dropout is off", watched_step, _step(mode="eval")
)
teacher_with_gradient = done_as(
    "a gradient reaches the teacher: it costs memory, and the teacher is not to learn",
    watched_step,
    _step(teacher_grad=True),
)
no_update = done_as(
    "the student's parameters stay as they were: no step, or the gradient was set to zero before it",
    watched_step,
    _step(order="zero backward clip"),
    _step(order="backward zero clip step"),
)
labels_forgotten = done_as(
    "the loss did not get the labels, so padding counts", watched_step, _step(labels=False)
)
logits_swapped = done_as(
    "the loss takes the student's logits first, then the teacher's", watched_step, _step(swapped=True)
)
graph_kept = done_as(
    "the loss that is returned keeps its whole graph in memory: return a number",
    watched_step,
    _step(returned="tensor"),
)
STEP = (
    zero_grad_forgotten,
    not_clipped,
    clipped_by_value,
    student_in_eval_mode,
    teacher_with_gradient,
    no_update,
    labels_forgotten,
    logits_swapped,
    graph_kept,
)


# --- the loop


def _loop(
    *,
    count: Callable[[int, int], int] = lambda updates, size: updates,
    number: Callable[[int], int] = lambda epoch: epoch,
    groups: slice = slice(None),
    rate_at: Callable[[int, int], int] = lambda update, epoch: update,
    rate_first: bool = True,
    returned: Callable[[list[float]], Any] = list,
) -> Function:
    """A loop with something done in another way; `count` is of the updates asked for and an epoch's batches."""

    def loop(step, epoch, updates, optimizer, learning_rate):  # type: ignore[no-untyped-def]
        losses: list[float] = []
        size = len(list(epoch(0)))
        for update in range(count(updates, size)):
            current, place = divmod(update, size)
            batch = list(epoch(number(current)))[place]
            if not rate_first:
                losses.append(step(batch))
            for group in optimizer.param_groups[groups]:
                group["lr"] = learning_rate(rate_at(update, current))
            if rate_first:
                losses.append(step(batch))
        return returned(losses)

    return loop


one_epoch = done_as(
    "the loop ends when it has seen D' once: go on with the next epoch until `updates` are made",
    watched_loop,
    _loop(count=lambda updates, size: size),
)
whole_epochs = done_as(
    "the loop goes on to the end of the epoch: it must stop after `updates` steps, wherever that is",
    watched_loop,
    _loop(count=lambda updates, size: -(-updates // size) * size),
)
updates_are_epochs = done_as(
    "`updates` was taken for a number of epochs",
    watched_loop,
    _loop(count=lambda updates, size: updates * size),
)
off_by_one = done_as(
    "the number of steps is off by one",
    watched_loop,
    _loop(count=lambda updates, size: updates + 1),
    _loop(count=lambda updates, size: updates - 1),
)
same_epoch_again = done_as(
    "every epoch is epoch 0 again, in the same order",
    watched_loop,
    _loop(number=lambda epoch: 0),
)
epochs_from_one = done_as("epochs count from 0", watched_loop, _loop(number=lambda epoch: epoch + 1))
rate_after_step = done_as(
    "the learning rate is set after the step that it is for", watched_loop, _loop(rate_first=False)
)
rate_off_by_one = done_as(
    "the learning rate is that of the next update: updates count from 0",
    watched_loop,
    _loop(rate_at=lambda update, epoch: update + 1),
)
rate_of_the_epoch = done_as(
    "the learning rate goes by epochs: it is asked for at every update",
    watched_loop,
    _loop(rate_at=lambda update, epoch: epoch),
)
first_group_only = done_as(
    "only the first group of the optimizer's parameters gets the learning rate",
    watched_loop,
    _loop(groups=slice(0, 1)),
)
rate_never_set = done_as("the learning rate is never set", watched_loop, _loop(groups=slice(0, 0)))
one_loss = done_as(
    "one number is returned: the loss of every update is asked for",
    watched_loop,
    _loop(returned=lambda losses: losses[-1]),
    _loop(returned=lambda losses: sum(losses) / len(losses)),
    _loop(returned=sum),
)
LOOP = (
    one_epoch,
    whole_epochs,
    updates_are_epochs,
    off_by_one,
    same_epoch_again,
    epochs_from_one,
    rate_after_step,
    rate_off_by_one,
    rate_of_the_epoch,
    first_group_only,
    rate_never_set,
    one_loss,
)


# --- the writer


def _writer(
    *,
    best: bool = False,
    seen: Callable[[list[int]], list[int]] = list,
    stops: bool = True,
    longer: int = 0,
    cut: Callable[[list[int], list[int], int], list[int]] = lambda target, source, end: target,
) -> Function:
    """A writer with something done in another way; `seen` is the prefix that the teacher is shown."""

    def write(next_token, source, draw, end, most):  # type: ignore[no-untyped-def]
        target: list[int] = []
        while len(target) < most + longer and not (stops and target[-1:] == [end]):
            p = next_token(source, seen(target))
            target.append(int(p.argmax()) if best else draw(p))
        return cut(target, source, end)

    return write


most_probable = done_as(
    "this is the most probable token each time: it is to be drawn", watched_writer, _writer(best=True)
)
prefix_does_not_grow = done_as(
    "the teacher is asked after the empty prefix each time: it must see what it has written so far",
    watched_writer,
    _writer(seen=lambda target: []),
)
only_the_last_token = done_as(
    "the teacher sees the last token alone: the whole prefix is what it is asked about",
    watched_writer,
    _writer(seen=lambda target: target[-1:]),
)
does_not_stop = done_as("the target goes on after the end token", watched_writer, _writer(stops=False))
end_missing = done_as(
    "the end token is missing: it is the target's last, and the student must learn when to stop",
    watched_writer,
    _writer(cut=lambda target, source, end: [token for token in target if token != end]),
)
end_always_added = done_as(
    "an end token is added that nobody drew",
    watched_writer,
    _writer(cut=lambda target, source, end: target if target[-1:] == [end] else [*target, end]),
    _writer(cut=lambda target, source, end: [*target, end]),
)
limit_off_by_one = done_as(
    "the limit is off by one: `most` tokens are allowed",
    watched_writer,
    _writer(longer=1),
    _writer(longer=-1),
)
source_in_target = done_as(
    "the target begins with the source: it holds what the teacher wrote, and nothing else",
    watched_writer,
    _writer(cut=lambda target, source, end: [*source, *target]),
)
WRITER = (
    most_probable,
    prefix_does_not_grow,
    only_the_last_token,
    does_not_stop,
    end_missing,
    end_always_added,
    limit_off_by_one,
    source_in_target,
)


# --- the floor: the exercise takes `loss`, `student_logits`, `teacher_logits`, `labels`


@mistake("the teacher's entropy was taken off: it is the floor of cross-entropy, not of every loss")
def entropy_taken_off(call: Call) -> Iterator[Any]:
    """Over the tokens that count, and over all; the entropy is at temperature 1."""
    p = call["teacher_logits"].softmax(-1)
    entropy = -torch.xlogy(p, p).sum(-1)
    yield _loss(call) - entropy[call.counted].mean()
    yield _loss(call) - entropy.mean()


@mistake("this is the loss itself: nothing was taken off")
def nothing_taken_off(call: Call) -> Iterator[Any]:
    yield _loss(call)


@mistake("this is the floor: the loss of the student is asked for, as far as it is above it")
def floor_itself(call: Call) -> Iterator[Any]:
    yield _loss(call) - call.right()


@mistake("the loss was divided by its floor: the difference is asked for")
def divided_by_floor(call: Call) -> Iterator[Any]:
    yield _loss(call) / (_loss(call) - call.right())


@mistake("what was taken off is the loss of the student against itself: the teacher is not in it")
def student_against_itself(call: Call) -> Iterator[Any]:
    yield _loss(call) - call["loss"](call["student_logits"], call["student_logits"], call["labels"])


def _loss(call: Call) -> Any:
    return call["loss"](call["student_logits"], call["teacher_logits"], call["labels"])


FLOOR = (
    nothing_taken_off,
    entropy_taken_off,
    floor_itself,
    divided_by_floor,
    student_against_itself,
)
