"""Answers to notebook 04: each stands for the whole exercise cell; a wrong one with what its check must say."""

TEMPERED = "def tempered_kl(student_logits, teacher_logits, temperature):\n"
FALLS = "def falls_as(student_logits, teacher_logits, temperature):\n"
COUNTED = "def counted(logits, labels, kind):\n"
MEAN = "def token_mean(losses, labels):\n"
SHARES = "def shares(pieces):\n"
MIXED = "def mixed_loss(student_logits, teacher_logits, labels, temperature, ce_weight):\n"
LEFT = "def left_to_learn(cross_entropy, teacher_logits, labels):\n"

P_AND_Q = """\
    p = (teacher_logits.detach() / temperature).softmax(-1)
    q = (student_logits / temperature).softmax(-1)
"""
KL = "(p * (p / q).log()).sum(-1)"
SIZE = """\
    def size(T):
        p, q = (teacher_logits / T).softmax(-1), (student_logits / T).softmax(-1)
        return ((q - p) / T).norm()
"""
MASK = "    mask = labels != -100\n"
SHIFT = '    if kind == "causal":\n        logits, labels = logits[:, :-1], labels[:, 1:]\n'
TOKENS = "    tokens = sum((labels != -100).sum() for _, labels in pieces)\n"
PARTS = """\
    mask = labels != -100
    s, t, y = student_logits[mask], teacher_logits[mask], labels[mask]
    kl = plain_kl(s, t, temperature).mean()
    ce = F.cross_entropy(s, y)
"""
ENTROPY = "    entropy = distributions.entropy(teacher_logits)\n"

ANSWERS = {
    "tempered_kl": {
        "right": {
            "by the ratio": TEMPERED + P_AND_Q + f"    return temperature * temperature * {KL}\n",
            "kl_div": TEMPERED
            + "    q = F.log_softmax(student_logits / temperature, dim=-1)\n"
            + "    p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)\n"
            + '    each = F.kl_div(q, p, reduction="none", log_target=True)\n'
            + "    return each.sum(-1) * temperature**2\n",
        },
        "wrong": {
            "no square": (TEMPERED + P_AND_Q + f"    return {KL}\n", "T^2 is missing"),
            "T alone": (
                TEMPERED + P_AND_Q + f"    return temperature * {KL}\n",
                "the divergence is multiplied by T, not by T^2",
            ),
            "divided": (
                TEMPERED + P_AND_Q + f"    return {KL} / temperature**2\n",
                "the divergence is divided by T^2, not multiplied",
            ),
            "teacher at 1": (
                TEMPERED
                + P_AND_Q
                + "    p = teacher_logits.detach().softmax(-1)\n"
                + f"    return temperature**2 * {KL}\n",
                "the teacher's logits were not divided by the temperature",
            ),
            "student at 1": (
                TEMPERED
                + P_AND_Q
                + f"    q = student_logits.softmax(-1)\n    return temperature**2 * {KL}\n",
                "the student's logits were not divided by the temperature",
            ),
            "multiplied by T": (
                TEMPERED + P_AND_Q.replace("/", "*") + f"    return {KL} / temperature**2\n",
                "the logits are multiplied by the temperature, not divided",
            ),
            "reversed": (
                TEMPERED + P_AND_Q + "    return temperature**2 * (q * (q / p).log()).sum(-1)\n",
                "this is KL the other way round",
            ),
            "cross-entropy": (
                TEMPERED + P_AND_Q + "    return -(temperature**2) * (p * q.log()).sum(-1)\n",
                "this is cross-entropy, not KL: the teacher's entropy is still in it",
            ),
            "mean over V": (
                TEMPERED + P_AND_Q + f"    return temperature**2 * {KL.replace('sum', 'mean')}\n",
                "a mean was taken where the sum is asked for",
            ),
            "not detached": (
                TEMPERED + P_AND_Q.replace(".detach()", "") + f"    return temperature**2 * {KL}\n",
                "the teacher is not detached",
            ),
            "kdlab's own": (
                TEMPERED
                + "    return kdlab.forward_kl(student_logits, teacher_logits, temperature=temperature, "
                + 'reduction="none")\n',
                "write this one yourself",
            ),
        },
    },
    "falls_as": {
        "right": {
            "closed form": FALLS
            + SIZE
            + "    return torch.log2(size(temperature) / size(2 * temperature))\n",
            "a Python number": FALLS
            + "    import math\n"
            + SIZE
            + "    ratio = size(temperature).item() / size(2 * temperature).item()\n"
            + "    return math.log(ratio) / math.log(2)\n",
            "backward": FALLS
            + "    sizes = []\n"
            + "    for T in (temperature, 2 * temperature):\n"
            + "        leaf = student_logits.clone().requires_grad_()\n"
            + "        plain_kl(leaf, teacher_logits, T).sum().backward()\n"
            + "        sizes.append(leaf.grad.norm())\n"
            + "    return sizes[0].log2() - sizes[1].log2()\n",
        },
        "wrong": {
            "the value": (
                FALLS
                + "    once, twice = (plain_kl(student_logits, teacher_logits, t).sum() for t in (temperature, "
                + "2 * temperature))\n    return torch.log2(once / twice)\n",
                "this is how the value falls: the gradient is asked for",
            ),
            "the value, and the natural logarithm": (
                FALLS
                + "    once, twice = (plain_kl(student_logits, teacher_logits, t).sum() for t in (temperature, "
                + "2 * temperature))\n    return torch.log(once / twice)\n",
                "this is how the value falls: the gradient is asked for",
            ),
            "no chain rule": (
                FALLS
                + SIZE.replace("((q - p) / T)", "(q - p)")
                + "    return torch.log2(size(temperature) / size(2 * temperature))\n",
                "the chain rule is missing",
            ),
            "with T^2": (
                FALLS
                + SIZE.replace("((q - p) / T)", "((q - p) * T)")
                + "    return torch.log2(size(temperature) / size(2 * temperature))\n",
                "T^2 is counted in: the plain KL is asked for",
            ),
            "natural logarithm": (
                FALLS + SIZE + "    return torch.log(size(temperature) / size(2 * temperature))\n",
                "the logarithm has another base than 2",
            ),
            "the ratio": (
                FALLS + SIZE + "    return size(temperature) / size(2 * temperature)\n",
                "this is the ratio of the two gradients: which power of 2 is it?",
            ),
            "upside down": (
                FALLS + SIZE + "    return torch.log2(size(2 * temperature) / size(temperature))\n",
                "the sign is the other way round",
            ),
            "what the theory says": (FALLS + "    return 2.0\n", "not right yet: got 2, expected"),
        },
    },
    "counted": {
        "right": {
            "place by place": COUNTED
            + '    shift = 1 if kind == "causal" else 0\n'
            + "    rows, tokens = [], []\n"
            + "    for i in range(labels.shape[0]):\n"
            + "        for j in range(labels.shape[1] - shift):\n"
            + "            if labels[i, j + shift] != -100:\n"
            + "                rows.append(logits[i, j])\n"
            + "                tokens.append(labels[i, j + shift])\n"
            + "    return torch.stack(rows), torch.stack(tokens)\n",
            "moved labels": COUNTED
            + '    if kind == "causal":\n'
            + "        end = torch.full_like(labels[:, :1], -100)\n"
            + "        labels = torch.cat([labels[:, 1:], end], dim=1)\n"
            + "    keep = labels.ne(-100).flatten().nonzero().squeeze(-1)\n"
            + "    return logits.flatten(0, 1)[keep], labels.flatten()[keep]\n",
        },
        "wrong": {
            "never shifted": (
                COUNTED + MASK + "    return logits[mask], labels[mask]\n",
                "a decoder-only batch was not shifted",
            ),
            "always shifted": (
                COUNTED
                + "    logits, labels = logits[:, :-1], labels[:, 1:]\n"
                + MASK
                + "    return logits[mask], labels[mask]\n",
                "an encoder-decoder batch was shifted: its decoder input is shifted already",
            ),
            "backwards": (
                COUNTED
                + '    if kind == "causal":\n        logits, labels = logits[:, 1:], labels[:, :-1]\n'
                + MASK
                + "    return logits[mask], labels[mask]\n",
                "the labels are shifted the wrong way",
            ),
            "mask first": (
                COUNTED
                + MASK
                + '    if kind == "causal":\n'
                + "        logits, labels, mask = logits[:, :-1], labels[:, 1:], mask[:, :-1]\n"
                + "    return logits[mask], labels[mask]\n",
                "the mask is from before the shift",
            ),
            "mask first, then flat rows": (
                COUNTED
                + MASK
                + "    rows, tokens = logits[mask], labels[mask]\n"
                + '    return (rows[:-1], tokens[1:]) if kind == "causal" else (rows, tokens)\n',
                "shift inside each sentence, before the mask",
            ),
            "padding kept": (
                COUNTED + SHIFT + "    return logits.flatten(0, 1), labels.flatten()\n",
                "places with the label -100 are still there",
            ),
            "token 0 dropped": (
                COUNTED + SHIFT + "    mask = labels > 0\n    return logits[mask], labels[mask]\n",
                "token 0 was left out",
            ),
            "kdlab's own": (
                COUNTED
                + "    logits, labels = distributions.align(logits, labels, kind)\n"
                + MASK
                + "    return logits[mask], labels[mask]\n",
                "write this one yourself",
            ),
        },
    },
    "token_mean": {
        "right": {
            "where": MEAN
            + "    kept = labels.ne(-100)\n"
            + "    total = torch.where(kept, losses, torch.zeros_like(losses)).sum()\n"
            + "    return total / max(int(kept.sum()), 1)\n",
            "loop": MEAN
            + "    total, count = losses.new_zeros(()), 0\n"
            + "    for row, marks in zip(losses, labels):\n"
            + "        for loss, label in zip(row, marks):\n"
            + "            if label != -100:\n"
            + "                total, count = total + loss, count + 1\n"
            + "    return total / count if count else total\n",
        },
        "wrong": {
            "all places": (MEAN + "    return losses.mean()\n", "padding is counted"),
            "length in the denominator": (
                MEAN + MASK + "    return losses[mask].sum() / labels.numel()\n",
                "the sum leaves padding out, the number of tokens that it is divided by does not",
            ),
            "mean of the sentences": (
                MEAN
                + MASK
                + "    means = [row[m].sum() / m.sum().clamp(min=1) for row, m in zip(losses, mask)]\n"
                + "    return torch.stack(means).mean()\n",
                "the mean is over the batch, not over the tokens",
            ),
            "per sentence": (
                MEAN + MASK + "    return losses[mask].sum() / len(labels)\n",
                "the mean is over the batch, not over the tokens",
            ),
            "sum": (
                MEAN + MASK + "    return losses[mask].sum()\n",
                "the sum was not divided by the number of tokens",
            ),
            "multiplied away": (
                MEAN + MASK + "    return (losses * mask).sum() / mask.sum().clamp(min=1)\n",
                "0 times inf is NaN",
            ),
            "nothing counts": (
                MEAN + MASK + "    return losses[mask].mean()\n",
                "where no token counts this is 0/0",
            ),
            "the answer kept for the check": (
                MEAN + "    return response_answers.token_mean(losses, labels)\n",
                "write this one yourself",
            ),
            "a number without a gradient": (
                MEAN + MASK + "    return losses[mask].sum().item() / mask.sum().clamp(min=1)\n",
                "the value is right, but no gradient arrives at losses",
            ),
        },
    },
    "shares": {
        "right": {
            "loop": SHARES
            + "    count = 0\n"
            + "    for _, labels in pieces:\n"
            + "        count += int(labels.ne(-100).sum())\n"
            + "    found = []\n"
            + "    for losses, labels in pieces:\n"
            + "        found.append(torch.where(labels == -100, 0.0, losses).sum() / count)\n"
            + "    return found\n",
            "weighed means": SHARES
            + "    masks = [labels != -100 for _, labels in pieces]\n"
            + "    counts = [int(mask.sum()) for mask in masks]\n"
            + "    return [(losses * mask).sum() / max(n, 1) * (n / sum(counts))\n"
            + "            for (losses, _), mask, n in zip(pieces, masks, counts)]\n",
        },
        "wrong": {
            "mean of means": (
                SHARES
                + "    return [losses[labels != -100].mean() / len(pieces) for losses, labels in pieces]\n",
                "these are the pieces' own means",
            ),
            "weighed by sentences": (
                SHARES
                + "    n = sum(len(labels) for _, labels in pieces)\n"
                + "    return [x[y != -100].mean() * len(y) / n for x, y in pieces]\n",
                "these are the pieces' own means",
            ),
            "whole means": (
                SHARES + "    return [losses[labels != -100].mean() for losses, labels in pieces]\n",
                "each piece is a whole mean: together they are too large",
            ),
            "by sentences": (
                SHARES
                + "    n = sum(len(labels) for _, labels in pieces)\n"
                + "    return [losses[labels != -100].sum() / n for losses, labels in pieces]\n",
                "divided by the number of sentences",
            ),
            "padding": (
                SHARES
                + "    n = sum(labels.numel() for _, labels in pieces)\n"
                + "    return [losses.sum() / n for losses, _ in pieces]\n",
                "padding is counted",
            ),
            "padding in the count": (
                SHARES
                + "    n = sum(labels.numel() for _, labels in pieces)\n"
                + "    return [losses[labels != -100].sum() / n for losses, labels in pieces]\n",
                "the sum leaves padding out, the number of tokens that it is divided by does not",
            ),
            "sums": (
                SHARES + "    return [losses[labels != -100].sum() for losses, labels in pieces]\n",
                "this is the sum of the piece: divide by the tokens of the whole batch",
            ),
            "means times their tokens": (
                SHARES
                + "    kept = [(losses, labels != -100) for losses, labels in pieces]\n"
                + "    return [losses[mask].mean() * mask.sum() for losses, mask in kept]\n",
                "this is the sum of the piece: divide by the tokens of the whole batch",
            ),
            "one number": (
                SHARES
                + TOKENS
                + "    return sum(losses[labels != -100].sum() for losses, labels in pieces) / tokens\n",
                "the shape is [], expected [2]",
            ),
        },
    },
    "mixed_loss": {
        "right": {
            "masks multiplied in": MIXED
            + "    kept = labels.ne(-100)\n"
            + "    each = (1 - ce_weight) * temperature**2 * plain_kl(student_logits, teacher_logits, temperature)\n"
            + "    log_q = student_logits.log_softmax(-1)\n"
            + "    chosen = log_q.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)\n"
            + "    return ((each - ce_weight * chosen) * kept).sum() / kept.sum()\n",
            "ignore_index": MIXED
            + "    ce = F.cross_entropy(student_logits.flatten(0, 1), labels.flatten(), ignore_index=-100)\n"
            + "    q = (student_logits / temperature).log_softmax(-1)\n"
            + "    p = (teacher_logits.detach() / temperature).log_softmax(-1)\n"
            + "    each = (p.exp() * (p - q)).sum(-1)\n"
            + "    kl = each[labels != -100].mean() * temperature**2\n"
            + "    return kl + ce_weight * (ce - kl)\n",
        },
        "wrong": {
            "no square": (
                MIXED + PARTS + "    return (1 - ce_weight) * kl + ce_weight * ce\n",
                "T^2 is missing",
            ),
            "T alone": (
                MIXED + PARTS + "    return (1 - ce_weight) * temperature * kl + ce_weight * ce\n",
                "the divergence is multiplied by T, not by T^2",
            ),
            "T^2 on both": (
                MIXED + PARTS + "    return temperature**2 * ((1 - ce_weight) * kl + ce_weight * ce)\n",
                "T^2 multiplies cross-entropy too",
            ),
            "cross-entropy at T": (
                MIXED
                + PARTS
                + "    ce = F.cross_entropy(s / temperature, y)\n"
                + "    return (1 - ce_weight) * temperature**2 * kl + ce_weight * ce\n",
                "cross-entropy is taken at the temperature",
            ),
            "weights swapped": (
                MIXED + PARTS + "    return ce_weight * temperature**2 * kl + (1 - ce_weight) * ce\n",
                "ce_weight and 1 - ce_weight have changed places",
            ),
            "divergence unweighted": (
                MIXED + PARTS + "    return temperature**2 * kl + ce_weight * ce\n",
                "the divergence has lost its weight",
            ),
            "no weights": (
                MIXED + PARTS + "    return temperature**2 * kl + ce\n",
                "the two parts are added without their weights",
            ),
            "padding as token 0": (
                MIXED
                + "    labels = labels.clamp(min=0)\n"
                + PARTS
                + "    return (1 - ce_weight) * temperature**2 * kl + ce_weight * ce\n",
                "padding is counted",
            ),
            "padding in KL alone": (
                MIXED
                + PARTS
                + "    kl = plain_kl(student_logits, teacher_logits, temperature).mean()\n"
                + "    return (1 - ce_weight) * temperature**2 * kl + ce_weight * ce\n",
                "padding is counted in KL, and left out of cross-entropy",
            ),
            "kdlab's own": (
                MIXED
                + "    return kdlab.distillation_loss(student_logits, teacher_logits, labels, "
                + "temperature=temperature, ce_weight=ce_weight)\n",
                "write this one yourself",
            ),
        },
    },
    "left_to_learn": {
        "right": {
            "in place of the mask": LEFT
            + "    p = teacher_logits[labels != -100].softmax(-1)\n"
            + "    return cross_entropy + torch.xlogy(p, p).sum(-1).mean()\n",
            "a Python number": LEFT
            + ENTROPY
            + "    kept = (labels != -100).float()\n"
            + "    return cross_entropy - ((entropy * kept).sum() / kept.sum()).item()\n",
        },
        "wrong": {
            "padding": (LEFT + ENTROPY + "    return cross_entropy - entropy.mean()\n", "padding is counted"),
            "added": (
                LEFT + ENTROPY + "    return cross_entropy + entropy[labels != -100].mean()\n",
                "the entropy is added: cross-entropy holds it already",
            ),
            "sum": (
                LEFT + ENTROPY + "    return cross_entropy - entropy[labels != -100].sum()\n",
                "the entropy is summed up",
            ),
            "bits": (
                LEFT
                + "    p = teacher_logits[labels != -100].softmax(-1)\n"
                + "    return cross_entropy + (p * p.log2()).sum(-1).mean()\n",
                "the entropy is in bits, log base 2",
            ),
            "of the mean": (
                LEFT
                + "    p = teacher_logits[labels != -100].softmax(-1).mean(0)\n"
                + "    return cross_entropy + (p * p.log()).sum()\n",
                "this is the entropy of the mean distribution",
            ),
            "the floor": (
                LEFT + ENTROPY + "    return entropy[labels != -100].mean()\n",
                "this is the teacher's entropy, the part that cannot be learnt",
            ),
            "ratio": (
                LEFT + ENTROPY + "    return cross_entropy / entropy[labels != -100].mean()\n",
                "this is a ratio: the difference is asked for",
            ),
            "share": (
                LEFT + ENTROPY + "    return 1 - entropy[labels != -100].mean() / cross_entropy\n",
                "this is a ratio: the difference is asked for",
            ),
            "hard-coded": (LEFT + "    return torch.tensor(0.3069)\n", "not right yet: got 0.3069, expected"),
            "sign": (
                LEFT + ENTROPY + "    return entropy[labels != -100].mean() - cross_entropy\n",
                "the sign is the other way round",
            ),
        },
    },
}
