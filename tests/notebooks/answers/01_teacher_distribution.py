"""Answers to notebook 01: each stands for the whole exercise cell; a wrong one with what its check must say."""

NEXT = "def next_word(source, prefix_words):\n"
LOG_SOFTMAX = "def log_softmax(logits, temperature):\n"
ENTROPY = "def entropy(logits, temperature):\n"
SEQUENCE = "def sequence_log_probability(logits, labels):\n"
MASS = "def tokens_for_mass(logits, mass):\n"

COLLECT = """\
    n = len(prefix_words)
    found = {}
    for sentence, probability in phrasebook.translations(source).items():
        words = sentence.split(" ") + [""]
        if words[:n] == prefix_words:
            found[words[n]] = found.get(words[n], 0) + probability
"""
LOG_P = "    log_p = distributions.log_probabilities(logits, temperature)\n    p = log_p.exp()\n"
TOKENS = """\
    log_p = distributions.log_probabilities(logits)
    padding = labels == -100
    chosen = log_p.gather(-1, labels.masked_fill(padding, 0).unsqueeze(-1)).squeeze(-1)
"""
HELD = "    held = logits.softmax(-1).sort(-1, descending=True).values.cumsum(-1)\n"

OVERFLOW = "exp() has left the range of float32"
OWN = "write this one yourself"

ANSWERS = {
    "next_word": {
        "right": {
            "two passes": NEXT
            + "    n = len(prefix_words)\n"
            + "    pairs = [(s.split(' '), p) for s, p in phrasebook.translations(source).items()]\n"
            + "    pairs = [(w[n] if len(w) > n else '', p) for w, p in pairs if w[:n] == prefix_words]\n"
            + "    return {word: sum(p for w, p in pairs if w == word) / sum(p for _, p in pairs)\n"
            + "            for word, _ in pairs}\n",
            "defaultdict and zip": NEXT
            + "    from collections import defaultdict\n"
            + "    found = defaultdict(float)\n"
            + "    for sentence, probability in phrasebook.translations(source).items():\n"
            + "        words = sentence.split(' ')\n"
            + "        if len(words) >= len(prefix_words) and all(a == b for a, b in zip(words, prefix_words)):\n"
            + "            found[(words + [''])[len(prefix_words)]] += probability\n"
            + "    return {word: p / sum(found.values()) for word, p in found.items()}\n",
        },
        "wrong": {
            "not divided": (NEXT + COLLECT + "    return found\n", "divide by the share"),
            "counted, not weighed": (
                NEXT
                + COLLECT.replace("+ probability", "+ 1")
                + "    return {word: count / sum(found.values()) for word, count in found.items()}\n",
                "every translation counts the same",
            ),
            "overwritten": (
                NEXT
                + COLLECT.replace("found.get(words[n], 0) + probability", "probability")
                + "    return {word: p / sum(found.values()) for word, p in found.items()}\n",
                "overwrites the others",
            ),
            "the best word alone": (
                NEXT + COLLECT + "    return {max(found, key=found.get): 1.0}\n",
                "the most probable word alone",
            ),
            "the end forgotten": (
                NEXT
                + COLLECT.replace(' + [""]', "").replace("if words[:n]", "if len(words) > n and words[:n]")
                + "    return {word: p / sum(found.values()) for word, p in found.items()}\n",
                "the key '' is missing",
            ),
            "the prefix is not compared": (
                NEXT
                + COLLECT.replace("if words[:n] == prefix_words", "if len(words) > n")
                + "    return {word: p / sum(found.values()) for word, p in found.items()}\n",
                "is not asked for",
            ),
            "pairs, not a dict": (
                NEXT + COLLECT + "    return list(found.items())\n",
                "the answer is a list",
            ),
            "only the last word of the prefix": (
                NEXT
                + COLLECT.replace(
                    "words[:n] == prefix_words", "n == 0 or words[n - 1 : n] == prefix_words[-1:]"
                )
                + "    return {word: p / sum(found.values()) for word, p in found.items()}\n",
                "the key 'ich' is not asked for",
            ),
            "hard-coded": (
                NEXT
                + "    if prefix_words == ['Wo']:\n"
                + "        return {'ist': 4 / 7, 'liegt': 2 / 7, 'befindet': 1 / 7}\n"
                + "    return {'': 1.0} if prefix_words[-1] == 'Bank?' else {'gestern': 1.0}\n",
                "right on the visible example",
            ),
            "kdlab's own": (
                NEXT + "    return phrasebook.next_word_distribution(source, prefix_words)\n",
                OWN,
            ),
        },
    },
    "log_softmax": {
        "right": {
            "logsumexp": LOG_SOFTMAX
            + "    scaled = logits.float() / temperature\n"
            + "    return scaled - torch.logsumexp(scaled, -1, keepdim=True)\n",
            "amax and transposed": LOG_SOFTMAX
            + "    x = (logits.float() / temperature).movedim(-1, 0)\n"
            + "    x = x - x.amax(0)\n"
            + "    return (x - x.exp().sum(0).log()).movedim(0, -1)\n",
            "torch's own": LOG_SOFTMAX
            + "    return torch.nn.functional.log_softmax(logits.float() / temperature, -1)\n",
        },
        "wrong": {
            "no softmax": (LOG_SOFTMAX + "    return logits.float() / temperature\n", "there is no softmax"),
            "softmax twice": (
                LOG_SOFTMAX + "    return (logits.float() / temperature).softmax(-1).log_softmax(-1)\n",
                "softmax was taken twice",
            ),
            "probabilities": (
                LOG_SOFTMAX + "    return (logits.float() / temperature).softmax(-1)\n",
                "these are probabilities",
            ),
            "temperature forgotten": (
                LOG_SOFTMAX + "    return logits.float().log_softmax(-1)\n",
                "the temperature has no effect",
            ),
            "multiplied by the temperature": (
                LOG_SOFTMAX + "    return (logits.float() * temperature).log_softmax(-1)\n",
                "multiplied by the temperature",
            ),
            "temperature after the softmax": (
                LOG_SOFTMAX + "    return logits.float().log_softmax(-1) / temperature\n",
                "the temperature comes after the softmax",
            ),
            "wrong axis": (
                LOG_SOFTMAX + "    return (logits.float() / temperature).log_softmax(0)\n",
                "the softmax is over the wrong axis",
            ),
            "overflow": (
                LOG_SOFTMAX
                + "    x = logits.float() / temperature\n"
                + "    return x - x.exp().sum(-1, keepdim=True).log()\n",
                OVERFLOW,
            ),
            "logarithm of the softmax": (
                LOG_SOFTMAX + "    return (logits.float() / temperature).softmax(-1).log()\n",
                OVERFLOW,
            ),
            "one maximum for all": (
                LOG_SOFTMAX
                + "    x = logits.float() / temperature\n"
                + "    x = x - x.max()\n"
                + "    return x - x.exp().sum(-1, keepdim=True).log()\n",
                OVERFLOW,
            ),
            "log2": (
                LOG_SOFTMAX + "    return (logits.float() / temperature).softmax(-1).log2()\n",
                "log base 2",
            ),
            "float16": (
                LOG_SOFTMAX + "    return (logits.half() / temperature).log_softmax(-1)\n",
                "float16 arithmetic",
            ),
            "in place": (
                LOG_SOFTMAX + "    logits /= temperature\n    return logits.float().log_softmax(-1)\n",
                "changed its input in place",
            ),
            "hard-coded": (
                LOG_SOFTMAX + "    return torch.tensor([[2.0, 1, -1], [0, 3, 1]]).div(2).log_softmax(-1)\n",
                "right on the visible example",
            ),
            "kdlab's own": (
                LOG_SOFTMAX + "    return distributions.log_probabilities(logits, temperature)\n",
                OWN,
            ),
        },
    },
    "entropy": {
        "right": {
            "Categorical": ENTROPY
            + "    return torch.distributions.Categorical(logits=logits / temperature).entropy()\n",
            "xlogy": ENTROPY
            + "    p = (logits / temperature).softmax(-1)\n"
            + "    return -torch.xlogy(p, p).sum(-1)\n",
            "loop": ENTROPY
            + LOG_P
            + "    total = torch.zeros(logits.shape[:-1])\n"
            + "    for v in range(logits.shape[-1]):\n"
            + "        total = total - (p[..., v] * log_p[..., v]).nan_to_num(0.0)\n"
            + "    return total\n",
        },
        "wrong": {
            "minus forgotten": (
                ENTROPY + LOG_P + "    return torch.xlogy(p, p).sum(-1)\n",
                "the sign is the other way round",
            ),
            "log2": (
                ENTROPY + LOG_P + "    return -(p * p.log2().masked_fill(p == 0, 0)).sum(-1)\n",
                "log base 2",
            ),
            "mean": (
                ENTROPY + LOG_P + "    return -torch.xlogy(p, p).mean(-1)\n",
                "a mean was taken",
            ),
            "softmax twice": (
                ENTROPY
                + "    p = (logits / temperature).softmax(-1)\n"
                + "    return torch.distributions.Categorical(logits=p).entropy()\n",
                "softmax was taken twice",
            ),
            "0 log 0": (ENTROPY + LOG_P + "    return -(p * log_p).sum(-1)\n", "0 times -inf is NaN"),
            "temperature forgotten": (
                ENTROPY + "    return torch.distributions.Categorical(logits=logits).entropy()\n",
                "the temperature has no effect",
            ),
            "multiplied by the temperature": (
                ENTROPY
                + "    return torch.distributions.Categorical(logits=logits * temperature).entropy()\n",
                "multiplied by the temperature",
            ),
            "one number for all": (
                ENTROPY + LOG_P + "    return -torch.xlogy(p, p).sum()\n",
                "the shape is []",
            ),
            "wrong axis": (ENTROPY + LOG_P + "    return -torch.xlogy(p, p).sum(0)\n", "the shape is"),
            "p forgotten": (ENTROPY + LOG_P + "    return -log_p.sum(-1)\n", "not right yet"),
            "kdlab's own": (ENTROPY + "    return distributions.entropy(logits, temperature)\n", OWN),
        },
    },
    "sequence_log_probability": {
        "right": {
            "loops": SEQUENCE
            + "    log_p = logits.log_softmax(-1)\n"
            + "    rows = []\n"
            + "    for b in range(len(labels)):\n"
            + "        kept = [log_p[b, i, y] for i, y in enumerate(labels[b].tolist()) if y != -100]\n"
            + "        rows.append(sum(kept, torch.tensor(0.0)))\n"
            + "    return torch.stack(rows)\n",
            "cross_entropy": SEQUENCE
            + "    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction='none')\n"
            + "    return -nll.sum(-1)\n",
            "one-hot": SEQUENCE
            + "    hot = labels.unsqueeze(-1) == torch.arange(logits.shape[-1])\n"
            + "    return torch.where(hot, logits.log_softmax(-1), 0.0).sum((1, 2))\n",
        },
        "wrong": {
            "padding read as token 0": (
                SEQUENCE + TOKENS + "    return chosen.sum(-1)\n",
                "padding is counted",
            ),
            "padding read as the last token": (
                SEQUENCE
                + "    log_p = logits.log_softmax(-1)\n"
                + "    last = logits.shape[-1] - 1\n"
                + "    return log_p.gather(-1, labels.where(labels >= 0, last).unsqueeze(-1)).sum((1, 2))\n",
                "padding is counted",
            ),
            "-100 as an index": (
                SEQUENCE
                + "    log_p = logits.log_softmax(-1)\n"
                + "    return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1).sum(-1)\n",
                "-100 was used as an index",
            ),
            "mean over the tokens": (
                SEQUENCE
                + TOKENS
                + "    return chosen.masked_fill(padding, 0.0).sum(-1) / (~padding).sum(-1)\n",
                "a mean was taken",
            ),
            "mean over the length": (
                SEQUENCE + TOKENS + "    return chosen.masked_fill(padding, 0.0).mean(-1)\n",
                "a mean was taken",
            ),
            "a loss": (
                SEQUENCE + TOKENS + "    return -chosen.masked_fill(padding, 0.0).sum(-1)\n",
                "the sign is the other way round",
            ),
            "the probability": (
                SEQUENCE + TOKENS + "    return chosen.masked_fill(padding, 0.0).sum(-1).exp()\n",
                "these are probabilities",
            ),
            "shifted": (
                SEQUENCE
                + "    logits, labels = logits[:, :-1], labels[:, 1:]\n"
                + TOKENS
                + "    return chosen.masked_fill(padding, 0.0).sum(-1)\n",
                "shifted against each other",
            ),
            "softmax twice": (
                SEQUENCE
                + TOKENS.replace("(logits)", "(logits.softmax(-1))")
                + "    return chosen.masked_fill(padding, 0.0).sum(-1)\n",
                "softmax was taken twice",
            ),
            "one number for the batch": (
                SEQUENCE + TOKENS + "    return chosen.masked_fill(padding, 0.0).sum()\n",
                "the shape is []",
            ),
            "the best tokens": (
                SEQUENCE
                + "    best = logits.log_softmax(-1).max(-1).values\n"
                + "    return best.masked_fill(labels == -100, 0.0).sum(-1)\n",
                "not right yet",
            ),
            "kdlab's own": (
                SEQUENCE
                + "    return distributions.sequence_log_probability(logits, labels, alignment='encoder_decoder')\n",
                OWN,
            ),
        },
    },
    "tokens_for_mass": {
        "right": {
            "argmax": MASS
            + HELD
            + "    return (held >= mass).int().argmax(-1)+ 0 * held[..., 0].long() + 1\n",
            "searchsorted": MASS
            + HELD
            + "    target = torch.full((*held.shape[:-1], 1), mass)\n"
            + "    return torch.searchsorted(held, target).squeeze(-1) + 1\n",
            "loop": MASS
            + "    p = logits.softmax(-1).flatten(0, -2) if logits.dim() > 1 else logits.softmax(-1)[None]\n"
            + "    counts = []\n"
            + "    for row in p.tolist():\n"
            + "        total, n = 0.0, 0\n"
            + "        for share in sorted(row, reverse=True):\n"
            + "            if total >= mass:\n"
            + "                break\n"
            + "            total, n = total + share, n + 1\n"
            + "        counts.append(n)\n"
            + "    return torch.tensor(counts).reshape(logits.shape[:-1])\n",
        },
        "wrong": {
            "one too few": (MASS + HELD + "    return (held < mass).sum(-1)\n", "off by one"),
            "one too many": (MASS + HELD + "    return (held < mass).sum(-1) + 2\n", "off by one"),
            "the least probable first": (
                MASS
                + "    held = logits.softmax(-1).sort(-1).values.cumsum(-1)\n"
                + "    return (held < mass).sum(-1) + 1\n",
                "from the least probable",
            ),
            "not sorted": (
                MASS
                + "    held = logits.softmax(-1).cumsum(-1)\n"
                + "    return (held < mass).sum(-1) + 1\n",
                "not right yet",
            ),
            "softmax twice": (
                MASS
                + "    held = logits.softmax(-1).softmax(-1).sort(-1, descending=True).values.cumsum(-1)\n"
                + "    return (held < mass).sum(-1) + 1\n",
                "softmax was taken twice",
            ),
            "tokens above the mass": (
                MASS + "    return (logits.softmax(-1) >= mass).sum(-1)\n",
                "not right yet",
            ),
            "no softmax": (
                MASS
                + "    held = logits.sort(-1, descending=True).values.cumsum(-1)\n"
                + "    return (held < mass).sum(-1) + 1\n",
                "not right yet",
            ),
            "one number for all rows": (
                MASS + HELD + "    return (held < mass).sum() + 1\n",
                "the shape is []",
            ),
            "kdlab's own": (MASS + "    return distributions.entries_for_mass(logits, mass)\n", OWN),
        },
    },
}
