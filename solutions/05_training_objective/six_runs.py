"""Train the runs of notebook 05 whose loss stays high, and keep curves and evidence in runs.json beside this file.

    python solutions/05_training_objective/six_runs.py [--only LETTER]

A to F are the exercise, Z is the example that the notebook reads together with the student. Each takes one to
two minutes on one CPU core. What was planted in which run stands here and in the hidden test, not in runs.json.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from student_and_baseline import keep
from torch import Tensor, nn

import kdlab
from kdlab.diagnostic_batches import with_rolled
from kdlab.diagnostic_values import kl, label_scores
from kdlab.distributions import log_probabilities
from kdlab.files import read_json
from kdlab.loop import OnBatches, epochs_of, training_loop, training_step, warm_up_and_down
from kdlab.model_io import Batch, target_logits
from kdlab.phrasebook_teacher import phrasebook_teacher
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher
from kdlab.unlabelled import teacher_samples

RECORD = Path(__file__).with_name("runs.json")
INPUTS, HELD_OUT = 1500, 48
UPDATES, TOKENS, RATE, WARMUP = 1000, 300, 1e-2, 20
ONE_BATCH = 80  # updates on one batch alone
SOURCE = ("input_ids", "attention_mask")
KEPT_TOKENS = 3  # of each source, where the rest is cut off


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy on soft labels at T = 1.5, times T^2, mean over the tokens that count."""
    p_t = (teacher_logits / 1.5).softmax(-1)
    tokens = -(p_t * (student_logits / 1.5).log_softmax(-1)).sum(-1)
    return 1.5**2 * tokens[labels != -100].mean()


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return kdlab.forward_kl(student_logits, teacher_logits, labels)


LOSSES = {"KL": forward_kl, "cross-entropy on soft labels, T = 1.5": soft_cross_entropy}
KL, SOFT = LOSSES


@dataclass(frozen=True)
class Run:
    """How one run is set up; what differs from the defaults is what was planted."""

    loss: str = KL
    rate: float = RATE
    teacher: Callable[[LiveTeacher], Callable[[Batch], Tensor]] = lambda teacher: teacher
    given: Callable[[Batch], Batch] = lambda batch: batch  # what the student gets of a batch


def random_teacher(teacher: LiveTeacher) -> Callable[[Batch], Tensor]:
    """Its dropout is on, of 0.3."""
    model = copy.deepcopy(teacher.model).train()
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.3
    return torch.no_grad()(lambda batch: target_logits(model, batch))


def next_row(teacher: LiveTeacher) -> Callable[[Batch], Tensor]:
    """Row i of the teacher is that of token i + 1."""
    return lambda batch: teacher(batch).roll(-1, 1)


def cut_off(batch: Batch) -> Batch:
    mask = batch["attention_mask"].clone()
    mask[:, KEPT_TOKENS:] = 0
    return {**batch, "attention_mask": mask}


RUNS = {
    "A": Run(SOFT, given=cut_off),
    "B": Run(teacher=next_row),
    "C": Run(rate=0.15),
    "D": Run(SOFT),
    "E": Run(given=lambda batch: with_rolled(batch, SOURCE, 1)),
    "F": Run(teacher=random_teacher),
    "Z": Run(rate=1e-3),
}


class Trial:
    """A run, its data and its fresh students."""

    def __init__(self, run: Run, teacher: LiveTeacher, tokenizer, examples):
        self.run, self.loss, self.tokenizer = run, LOSSES[run.loss], tokenizer
        self.honest, self.teacher = teacher, run.teacher(teacher)
        self.examples, held_out = examples[HELD_OUT:], examples[:HELD_OUT]
        (self.batch,) = self.epochs(held_out, 100_000)(0)

    def epochs(self, examples, tokens):
        return epochs_of(examples, tokens_per_batch=tokens, seed=0, pad_token_id=self.tokenizer.pad_token_id)

    def student(self) -> nn.Module:
        size = Architecture(48, 1, 1, 192, dropout=0.0)
        return OnBatches(new_model(size, self.tokenizer, seed=0))

    def train(self, epoch, updates: int, rate: float) -> list[float]:
        """The loss of each update, as it is trained."""
        student = self.student()

        class Given(nn.Module):  # the student, behind what it is given
            def __init__(self, given):
                super().__init__()
                self.inner, self.given = student, given

            def forward(self, batch):
                return self.inner(self.given(batch))

        given = Given(self.run.given)
        optimizer = torch.optim.AdamW(given.parameters(), lr=rate, betas=(0.9, 0.98))
        return training_loop(
            lambda batch: training_step(given, self.teacher, batch, self.loss, optimizer, 1.0),
            epoch,
            updates,
            optimizer,
            warm_up_and_down(rate, WARMUP, updates),
        )

    @torch.no_grad()
    def evidence(self) -> dict[str, list[float]]:
        batch, labels = self.batch, self.batch["labels"]
        counted = labels != -100
        z_t, again = self.teacher(batch), self.teacher(batch)
        z_s = self.student()(self.run.given(batch))
        log_p = log_probabilities(z_t)

        def surprise(log_p: Tensor, offset: int = 0) -> float:
            return -float(label_scores(log_p, labels, offset)[counted].mean())

        noisy = torch.where(counted[..., None], z_s, torch.randn_like(z_s))
        beside = {**batch, "input_ids": self.run.given(batch)["input_ids"]}
        beside["attention_mask"] = (beside["input_ids"] != self.tokenizer.pad_token_id).long()
        other = [with_rolled(beside, SOURCE, step) for step in (2, 3, 4)]
        return {
            "itself": [float(self.loss(z_t, z_t, labels))],
            "twice": [float(kl(log_p, log_probabilities(again))[counted].mean())],
            "rows": [surprise(log_p, offset) for offset in (-1, 0, 1)],
            "padding": [abs(float(self.loss(noisy, z_t, labels) - self.loss(z_s, z_t, labels)))],
            "pairs": [
                surprise(log_probabilities(self.honest(beside))),
                sum(surprise(log_probabilities(self.honest(one))) for one in other) / 3,
            ],
            "reads": [self.share_read(self.honest), self.share_read(self.student(), self.run.given)],
        }

    def share_read(self, model, given=lambda batch: batch) -> float:
        """Of the source's tokens, one exchanged after the other: how many move what the model says."""
        batch, read, asked = given(self.batch), 0, 0
        real = batch["input_ids"] != self.tokenizer.pad_token_id  # the mask may be what is wrong
        for place in range(real.shape[1]):
            changed = dict(batch, input_ids=batch["input_ids"].clone())
            changed["input_ids"][:, place] = batch["input_ids"][:, place].roll(1, 0)
            differs = (changed["input_ids"] != batch["input_ids"]).any(1) & real[:, place]
            moved = (model(changed) - model(batch)).abs().amax((1, 2)) > 0
            read, asked = read + int((moved & differs).sum()), asked + int(differs.sum())
        return read / asked

    def one_batch(self) -> list[float]:
        """How far above its floor the loss ends on one batch alone: with the run's rate, a tenth, ten times."""
        batch = self.epochs(self.examples, TOKENS)(0)[0]
        with torch.no_grad():
            z_t = self.teacher(batch)
            floor = float(self.loss(z_t, z_t, batch["labels"]))
        ends = []
        for rate in (self.run.rate, self.run.rate / 10, self.run.rate * 10):
            losses = self.train(lambda n: [batch], ONE_BATCH, rate)
            ends.append(sum(losses[-5:]) / 5 - floor)
        return ends


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(RUNS), help="one of them, made anew")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=True)
    assert isinstance(teacher, LiveTeacher)  # it may be trained
    lines = [pair.source for pair in phrasebook.sample(INPUTS, seed=5)]
    examples = teacher_samples(teacher, tokenizer, lines, seed=0)
    for letter in [wanted.only] if wanted.only else RUNS:
        if not wanted.only and letter in (read_json(RECORD) or {}).get("high", {}):
            continue
        trial = Trial(RUNS[letter], teacher, tokenizer, examples)
        torch.manual_seed(0)  # the dropout of the teacher that has one
        losses = trial.train(trial.epochs(trial.examples, TOKENS), UPDATES, trial.run.rate)
        every = UPDATES // 20
        curve = [
            [update, round(sum(losses[update - every : update]) / every, 4)]
            for update in range(every, UPDATES + 1, every)
        ]
        evidence = {**trial.evidence(), "one_batch": trial.one_batch()}
        shown = {name: [round(value, 4) for value in values] for name, values in evidence.items()}
        run = {"loss": trial.run.loss, "curve": curve, "evidence": shown}
        print(letter, run["loss"], curve[-1], shown, flush=True)
        keep(RECORD, "high", {letter: run}, "python solutions/05_training_objective/six_runs.py")


if __name__ == "__main__":
    main()
