"""A model whose distribution over whole translations is a table: what it should score is known by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn


class Tabular(nn.Module):
    """Pr(target | source) as told, and the uniform distribution after a prefix that nothing in the table begins with.

    Args:
        vocabulary: entries of its logits.
        table: for each source (ids as a tuple), (target ids that end in eos, probability); they sum to 1.
    """

    def __init__(self, vocabulary, table):
        super().__init__()
        self.vocabulary, self.table = vocabulary, table
        self.config = SimpleNamespace(is_encoder_decoder=True, pad_token_id=0, decoder_start_token_id=0)
        self.anywhere = nn.Parameter(torch.zeros(1))  # models are asked for the device of their parameters

    def forward(self, input_ids, attention_mask, decoder_input_ids, use_cache=False):
        rows = []
        for source, mask, starts in zip(input_ids, attention_mask, decoder_input_ids.tolist(), strict=True):
            known = self.table.get(tuple(source[mask == 1].tolist()), [])
            rows.append(torch.stack([self.next_token(known, starts[1 : i + 1]) for i in range(len(starts))]))
        return SimpleNamespace(logits=torch.stack(rows).log())

    def next_token(self, known, prefix):
        mass = torch.zeros(self.vocabulary, dtype=torch.float64)
        for target, probability in known:
            if target[: len(prefix)] == prefix and len(target) > len(prefix):
                mass[target[len(prefix)]] += probability
        return mass / mass.sum() if mass.sum() > 0 else torch.full_like(mass, 1 / self.vocabulary)
