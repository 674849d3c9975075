"""A small teacher, students of it in health, and what the planted faults are made from."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from kdlab.losses import DistillationLoss
from kdlab.model_io import target_labels, target_logits
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import Example
from kdlab.text.causal import collate_for
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import encode_sources, encode_targets, train_tokenizer

SMALL = Architecture(d_model=32, encoder_layers=1, decoder_layers=1, ffn=64, heads=2, dropout=0.1)
SENTENCES = 32


class Bag(nn.Module):
    """A student that is quick to train: the mean of the source's words, the word before and its place, one layer."""

    def __init__(self, vocabulary: int, width: int = 64, length: int = 64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words = nn.Embedding(vocabulary, width)
            self.places = nn.Embedding(length, width)
            self.hidden = nn.Linear(3 * width, width)
            self.head = nn.Linear(width, vocabulary)
            nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, input_ids, attention_mask, decoder_input_ids, use_cache=False):
        mask = attention_mask[..., None].float()
        source = (self.words(input_ids) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        before = self.words(decoder_input_ids)
        places = self.places.weight[: before.shape[1]].expand_as(before)
        state = torch.cat([source.expand_as(before), before, places], -1)
        return SimpleNamespace(logits=self.head(torch.tanh(self.hidden(state))))


class CausalBag(nn.Module):
    """The same without an encoder: the mean of all words up to here in the place of the source's."""

    def __init__(self, vocabulary: int, width: int = 64):
        super().__init__()
        self.bag = Bag(vocabulary, width, length=128)

    def forward(self, input_ids, attention_mask, use_cache=False):
        bag, mask = self.bag, attention_mask[..., None].float()
        before = bag.words(input_ids)
        source = (before * mask).cumsum(1) / mask.cumsum(1).clamp_min(1)
        places = bag.places.weight[: before.shape[1]].expand_as(before)
        return SimpleNamespace(
            logits=bag.head(torch.tanh(bag.hidden(torch.cat([source, before, places], -1))))
        )


class World:
    """Sentences of the phrasebook, a tokenizer and a teacher that was trained on them, or on so many others."""

    def __init__(
        self, updates: int = 250, others: int = 0, seed: int = 1, size: Architecture = SMALL
    ) -> None:
        self.size = size
        self.phrasebook = Phrasebook("small")
        self.pairs = self.phrasebook.sample(others + SENTENCES, seed=seed)
        lines = [line for pair in self.pairs for line in (pair.source, pair.target)]
        self.tokenizer = train_tokenizer(lines, 400)
        sources = encode_sources(self.tokenizer, [pair.source for pair in self.pairs], 64)
        targets = encode_targets(self.tokenizer, [pair.target for pair in self.pairs], 64)
        self.sources, self.targets = sources[others:], targets[others:]
        self.model = new_model(size, self.tokenizer, seed=0)
        self.batches = self.collated(self.sources, self.targets)
        known = self.collated(sources[:others], targets[:others]) if others else self.batches
        fit(self.model, known, DistillationLoss(ce_weight=1.0), None, updates)
        self.teacher = LiveTeacher(self.model)

    def collated(self, sources, targets, rows: int = 16):
        examples = [Example(s, t) for s, t in zip(sources, targets, strict=True)]
        return [
            collate_for(self.model.config, examples[start : start + rows])
            for start in range(0, len(examples), rows)
        ]

    def student(self, seed: int = 5, **size):
        return new_model(Architecture(**{**vars(self.size), "dropout": 0.0, **size}), self.tokenizer, seed)

    def taught(
        self, updates: int = 250, *, loss=None, teacher=None, batches=None, rate: float = 1e-2, **size
    ):
        """A student after so many updates."""
        student = self.student(**size)
        fit(
            student,
            batches or self.batches,
            loss or DistillationLoss(),
            teacher or self.teacher,
            updates,
            rate,
        )
        return student


def fit(model, batches, loss, teacher, updates: int, rate: float = 1e-2) -> None:
    """Plain training with warm-up and a linear way down; a teacher of None leaves the labels."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 20, (updates - step) / updates)
    )
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for update in range(updates):
            batch = batches[update % len(batches)]
            logits = logits_of(model, batch)
            target = logits.detach() if teacher is None else teacher(batch)
            optimizer.zero_grad()
            loss(logits, target, target_labels(batch)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def logits_of(model, batch):
    """Beside `target_labels(batch)`, in the mode that the model is in."""
    return target_logits(model, batch)
