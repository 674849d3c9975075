"""Answers to notebook 05: each stands for the whole exercise cell; a wrong one with what its check must say."""

STEP = "def training_step(student, teacher, batch, loss, optimizer, max_norm):\n"
LOOP = "def training_loop(step, epoch, updates, optimizer, learning_rate):\n"
WRITE = "def write_target(next_token, source, draw, end, most):\n"
BATCHES = "def equal_batches(lengths, tokens_per_batch, updates):\n"
FLOOR = "def above_floor(loss, student_logits, teacher_logits, labels):\n"

OWN = "write this one yourself"

TRAIN = "    student.train()\n"
ASK = "    with torch.no_grad():\n        z_t = teacher(batch)\n"
LOSS = "    value = loss(student(batch), z_t, batch['labels'])\n"
ZERO = "    optimizer.zero_grad()\n"
BACKWARD = "    value.backward()\n"
CLIP = "    torch.nn.utils.clip_grad_norm_(student.parameters(), max_norm)\n"
MOVE = "    optimizer.step()\n"
RETURN = "    return value.item()\n"

GROUPS = "for group in optimizer.param_groups:\n"
ITERATE = """\
    losses, n = [], 0
    while len(losses) < updates:
        for batch in epoch(n):
            if len(losses) == updates:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(len(losses))
            losses.append(step(batch))
        n += 1
    return losses
"""
DRAWN = """\
    target = []
    for _ in range(most):
        token = draw(next_token(source, target))
        target.append(token)
        if token == end:
            break
    return target
"""
FILLED = """\
    epoch, batch = [], []
    for i in range(len(lengths)):
        longest = max(lengths[j] for j in [*batch, i])
        if (len(batch) + 1) * longest > tokens_per_batch:
            epoch.append(batch)
            batch = []
        batch.append(i)
    epoch.append(batch)
    return (epoch * updates)[:updates]
"""
CAUSES = {
    "A": "missing_input",
    "B": "shift",
    "C": "rate_too_high",
    "D": "floor",
    "E": "mispaired",
    "F": "dropout",
}


def changed(text: str, old: str, new: str) -> str:
    """With one place changed, which must be there."""
    assert old in text, old
    return text.replace(old, new)


def causes(**others: str) -> str:
    return f"causes = {CAUSES | others}\n"


ANSWERS = {
    "training_step": {
        "right": {
            "gradients by hand": STEP
            + TRAIN
            + "    z_t = teacher(batch).detach()\n"
            + "    value = loss(student(batch), z_t, batch['labels'])\n"
            + "    parameters = list(student.parameters())\n"
            + "    gradients = torch.autograd.grad(value, parameters)\n"
            + "    length = torch.stack([g.norm() for g in gradients]).norm()\n"
            + "    for parameter, gradient in zip(parameters, gradients):\n"
            + "        parameter.grad = gradient * min(1.0, max_norm / float(length))\n"
            + MOVE
            + "    return float(value)\n",
            "another order": STEP
            + ZERO
            + "    student.train()\n"
            + "    z_s = student(batch)\n"
            + ASK
            + "    value = loss(z_s, z_t, batch['labels'])\n"
            + BACKWARD
            + CLIP
            + MOVE
            + "    optimizer.zero_grad()\n"
            + "    return value.detach()\n",
            "student.zero_grad": STEP
            + "    student.train(True)\n"
            + "    student.zero_grad()\n"
            + "    with torch.inference_mode():\n        z_t = teacher(batch)\n"
            + "    z_t = z_t.clone()\n"
            + LOSS
            + BACKWARD
            + CLIP
            + MOVE
            + RETURN,
        },
        "wrong": {
            "zero_grad forgotten": (
                STEP + TRAIN + ASK + LOSS + BACKWARD + CLIP + MOVE + RETURN,
                "old gradients are still there",
            ),
            "zero_grad at the end alone": (
                STEP + TRAIN + ASK + LOSS + BACKWARD + CLIP + MOVE + ZERO + RETURN,
                "old gradients are still there",
            ),
            "zero_grad after backward": (
                STEP + TRAIN + ASK + LOSS + BACKWARD + ZERO + CLIP + MOVE + RETURN,
                "the student's parameters stay as they were",
            ),
            "no step": (
                STEP + TRAIN + ASK + LOSS + ZERO + BACKWARD + CLIP + RETURN,
                "the student's parameters stay as they were",
            ),
            "not clipped": (
                STEP + TRAIN + ASK + LOSS + ZERO + BACKWARD + MOVE + RETURN,
                "longer than max_norm",
            ),
            "clipped after the step": (
                STEP + TRAIN + ASK + LOSS + ZERO + BACKWARD + MOVE + CLIP + RETURN,
                "longer than max_norm",
            ),
            "clipped before backward": (
                STEP + TRAIN + ASK + LOSS + ZERO + CLIP + BACKWARD + MOVE + RETURN,
                "longer than max_norm",
            ),
            "clipped by value": (
                STEP
                + TRAIN
                + ASK
                + LOSS
                + ZERO
                + BACKWARD
                + CLIP.replace("grad_norm_", "grad_value_")
                + MOVE
                + RETURN,
                "each entry of the gradient was cut on its own",
            ),
            "student in eval mode": (
                STEP + ASK + LOSS + ZERO + BACKWARD + CLIP + MOVE + RETURN,
                "still in eval mode",
            ),
            "teacher with gradient": (
                STEP + TRAIN + "    z_t = teacher(batch)\n" + LOSS + ZERO + BACKWARD + CLIP + MOVE + RETURN,
                "a gradient reaches the teacher",
            ),
            "student without gradient": (
                STEP
                + TRAIN
                + ASK
                + "    with torch.no_grad():\n        z_s = student(batch)\n"
                + "    value = loss(z_s, z_t, batch['labels'])\n"
                + ZERO
                + BACKWARD
                + CLIP
                + MOVE
                + RETURN,
                "does not require grad",
            ),
            "labels forgotten": (
                STEP
                + TRAIN
                + ASK
                + "    value = loss(student(batch), z_t)\n"
                + ZERO
                + BACKWARD
                + CLIP
                + MOVE
                + RETURN,
                "padding counts",
            ),
            "logits swapped": (
                STEP
                + TRAIN
                + ASK
                + "    value = loss(z_t, student(batch), batch['labels'])\n"
                + ZERO
                + BACKWARD
                + CLIP
                + MOVE
                + RETURN,
                "takes the student's logits first",
            ),
            "the graph is returned": (
                STEP + TRAIN + ASK + LOSS + ZERO + BACKWARD + CLIP + MOVE + "    return value\n",
                "keeps its whole graph",
            ),
            "kdlab's own": (
                STEP
                + "    from kdlab.loop import training_step as own\n"
                + "    return own(student, teacher, batch, loss, optimizer, max_norm)\n",
                OWN,
            ),
        },
    },
    "training_loop": {
        "right": {
            "chain and islice": LOOP
            + "    from itertools import chain, count, islice\n"
            + "    losses = []\n"
            + "    stream = chain.from_iterable(epoch(n) for n in count())\n"
            + "    for i, batch in enumerate(islice(stream, updates)):\n"
            + "        for group in optimizer.param_groups:\n"
            + "            group.update(lr=learning_rate(i))\n"
            + "        losses.append(step(batch))\n"
            + "    return losses\n",
            "a queue": LOOP
            + "    waiting, n, losses = [], 0, []\n"
            + "    for i in range(updates):\n"
            + "        if not waiting:\n"
            + "            waiting, n = list(epoch(n)), n + 1\n"
            + "        rate = learning_rate(i)\n"
            + "        for k in range(len(optimizer.param_groups)):\n"
            + "            optimizer.param_groups[k]['lr'] = rate\n"
            + "        losses += [step(waiting.pop(0))]\n"
            + "    return losses\n",
        },
        "wrong": {
            "one epoch": (
                LOOP
                + "    losses = []\n"
                + "    for batch in epoch(0):\n"
                + "        for group in optimizer.param_groups:\n"
                + "            group['lr'] = learning_rate(len(losses))\n"
                + "        losses.append(step(batch))\n"
                + "    return losses\n",
                "the loop ends when it has seen D' once",
            ),
            "whole epochs": (
                LOOP
                + changed(ITERATE, "            if len(losses) == updates:\n                break\n", ""),
                "the loop goes on to the end of the epoch",
            ),
            "updates are epochs": (
                LOOP
                + "    losses = []\n"
                + "    for n in range(updates):\n"
                + "        for batch in epoch(n):\n"
                + "            for group in optimizer.param_groups:\n"
                + "                group['lr'] = learning_rate(len(losses))\n"
                + "            losses.append(step(batch))\n"
                + "    return losses\n",
                "taken for a number of epochs",
            ),
            "epoch 0 again": (
                LOOP + changed(ITERATE, "        n += 1\n", ""),
                "every epoch is epoch 0 again",
            ),
            "epochs from 1": (LOOP + changed(ITERATE, "[], 0", "[], 1"), "epochs count from 0"),
            "one too many": (
                LOOP
                + changed(
                    changed(ITERATE, "len(losses) < updates", "len(losses) <= updates"),
                    "len(losses) == updates",
                    "len(losses) == updates + 1",
                ),
                "off by one",
            ),
            "rate after the step": (
                LOOP
                + "    losses, n = [], 0\n"
                + "    while len(losses) < updates:\n"
                + "        for batch in epoch(n):\n"
                + "            if len(losses) == updates:\n"
                + "                break\n"
                + "            losses.append(step(batch))\n"
                + "            for group in optimizer.param_groups:\n"
                + "                group['lr'] = learning_rate(len(losses) - 1)\n"
                + "        n += 1\n"
                + "    return losses\n",
                "set after the step",
            ),
            "rate of the next update": (
                LOOP + changed(ITERATE, "learning_rate(len(losses))", "learning_rate(len(losses) + 1)"),
                "that of the next update",
            ),
            "rate of the epoch": (
                LOOP + changed(ITERATE, "learning_rate(len(losses))", "learning_rate(n)"),
                "goes by epochs",
            ),
            "first group alone": (
                LOOP + changed(ITERATE, "optimizer.param_groups:", "optimizer.param_groups[:1]:"),
                "only the first group",
            ),
            "rate never set": (
                LOOP + changed(ITERATE, 'group["lr"] = learning_rate(len(losses))', "pass"),
                "the learning rate is never set",
            ),
            "the mean": (
                LOOP + changed(ITERATE, "return losses", "return sum(losses) / len(losses)"),
                "one number is returned",
            ),
            "without end": (
                LOOP
                + "    losses = []\n"
                + "    while len(losses) < updates:\n"
                + "        for batch in epoch(0):\n"
                + "            step(batch)\n"
                + "    return losses\n",
                "are asked for",
            ),
            "nothing returned": (
                LOOP + changed(ITERATE, "    return losses\n", ""),
                "is there a `return`?",
            ),
            "kdlab's own": (
                LOOP
                + "    from kdlab.loop import training_loop as own\n"
                + "    return own(step, epoch, updates, optimizer, learning_rate)\n",
                OWN,
            ),
        },
    },
    "write_target": {
        "right": {
            "while": WRITE
            + "    target = []\n"
            + "    while len(target) < most:\n"
            + "        target += [draw(next_token(source, list(target)))]\n"
            + "        if target[-1] == end:\n"
            + "            return target\n"
            + "    return target\n",
            "recursive": WRITE
            + "    def go_on(prefix):\n"
            + "        if len(prefix) == most or (prefix and prefix[-1] == end):\n"
            + "            return prefix\n"
            + "        return go_on([*prefix, draw(next_token(source, prefix))])\n"
            + "    return go_on([])\n",
        },
        "wrong": {
            "the most probable": (
                WRITE
                + changed(
                    DRAWN, "draw(next_token(source, target))", "int(next_token(source, target).argmax())"
                ),
                "this is the most probable token each time",
            ),
            "the empty prefix": (
                WRITE + changed(DRAWN, "next_token(source, target)", "next_token(source, [])"),
                "after the empty prefix each time",
            ),
            "the last token alone": (
                WRITE + changed(DRAWN, "next_token(source, target)", "next_token(source, target[-1:])"),
                "sees the last token alone",
            ),
            "goes on": (
                WRITE + changed(DRAWN, "        if token == end:\n            break\n", ""),
                "goes on after the end token",
            ),
            "without the end": (
                WRITE
                + "    target = []\n"
                + "    for _ in range(most):\n"
                + "        token = draw(next_token(source, target))\n"
                + "        if token == end:\n"
                + "            break\n"
                + "        target.append(token)\n"
                + "    return target\n",
                "the end token is missing",
            ),
            "an end that nobody drew": (
                WRITE
                + changed(DRAWN, "return target", "return target if target[-1] == end else [*target, end]"),
                "an end token is added",
            ),
            "one too many": (
                WRITE + changed(DRAWN, "range(most)", "range(most + 1)"),
                "the limit is off by one",
            ),
            "one too few": (
                WRITE + changed(DRAWN, "range(most)", "range(most - 1)"),
                "the limit is off by one",
            ),
            "the source in front": (
                WRITE + changed(DRAWN, "return target", "return [*source, *target]"),
                "the target begins with the source",
            ),
            "drawn by itself": (
                WRITE
                + changed(
                    DRAWN,
                    "draw(next_token(source, target))",
                    "int(torch.multinomial(next_token(source, target), 1))",
                ),
                "'calls of draw': got 0",
            ),
            "kdlab's own": (
                WRITE
                + "    from kdlab.unlabelled import write_target as own\n"
                + "    return own(next_token, source, draw, end, most)\n",
                OWN,
            ),
        },
    },
    "equal_batches": {
        "right": {
            "sorted": BATCHES
            + "    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])\n"
            + "    batches = []\n"
            + "    while len(batches) < updates:\n"
            + "        rest = list(order)\n"
            + "        while rest:\n"
            + "            rows = tokens_per_batch // lengths[rest[0]]\n"
            + "            batches.append(rest[:rows])\n"
            + "            rest = rest[rows:]\n"
            + "    return batches[:updates]\n",
            "shuffled": BATCHES
            + "    import random\n"
            + "    batches = []\n"
            + "    while len(batches) < updates:\n"
            + "        left = random.sample(range(len(lengths)), len(lengths))\n"
            + "        while left:\n"
            + "            batch = [left.pop(0)]\n"
            + "            def padded(rows):\n"
            + "                return len(rows) * max(lengths[i] for i in rows)\n"
            + "            while left and padded(batch + left[:1]) <= tokens_per_batch:\n"
            + "                batch.append(left.pop(0))\n"
            + "            batches.append(batch)\n"
            + "    return batches[:updates]\n",
            "the hint": BATCHES + FILLED,
        },
        "wrong": {
            "one epoch": (
                BATCHES + changed(FILLED, "(epoch * updates)[:updates]", "epoch"),
                "this is one epoch, 2 batches",
            ),
            "updates are epochs": (
                BATCHES + changed(FILLED, "(epoch * updates)[:updates]", "epoch * updates"),
                "this is 4 epochs",
            ),
            "padding not counted": (
                BATCHES
                + changed(
                    FILLED,
                    "(len(batch) + 1) * longest > tokens_per_batch",
                    "sum(lengths[j] for j in [*batch, i]) > tokens_per_batch",
                ),
                "padding counts too",
            ),
            "one row too many": (
                BATCHES + changed(FILLED, "(len(batch) + 1) * longest", "len(batch) * longest"),
                "6 are allowed",
            ),
            "the last batch lost": (
                BATCHES + changed(FILLED, "    epoch.append(batch)\n    return", "    return"),
                "comes again before example 2 has come once",
            ),
            "one row each": (
                BATCHES + "    return [[i % len(lengths)] for i in range(updates)]\n",
                "is not full",
            ),
            "drawn at random": (
                BATCHES
                + "    import random\n"
                + "    random.seed(0)\n"
                + "    rows = max(tokens_per_batch // max(lengths), 1)\n"
                + "    return [[0] * rows for _ in range(updates)]\n",
                "comes again before",
            ),
            "lengths, not indices": (
                BATCHES + changed(FILLED, "batch.append(i)", "batch.append(lengths[i])"),
                "",
            ),
            "hard-coded": (
                BATCHES + "    return [[0, 1], [2], [0, 1], [2]]\n",
                "right on the visible example; on another",
            ),
            "nothing returned": (
                BATCHES + changed(FILLED, "    return (epoch * updates)[:updates]\n", ""),
                "is there a `return`?",
            ),
        },
    },
    "above_floor": {
        "right": {
            "one line": FLOOR
            + "    z_s, z_t = student_logits, teacher_logits\n"
            + "    return loss(z_s, z_t, labels) - loss(z_t, z_t, labels)\n",
            "stacked": FLOOR
            + "    both = [loss(z, teacher_logits, labels) for z in (student_logits, teacher_logits)]\n"
            + "    return torch.stack(both).flip(0).diff()[0]\n",
        },
        "wrong": {
            "nothing taken off": (
                FLOOR + "    return loss(student_logits, teacher_logits, labels)\n",
                "nothing was taken off",
            ),
            "the entropy": (
                FLOOR
                + "    p = teacher_logits.softmax(-1)\n"
                + "    entropy = -(p * p.log()).sum(-1)[labels != -100].mean()\n"
                + "    return loss(student_logits, teacher_logits, labels) - entropy\n",
                "the teacher's entropy was taken off",
            ),
            "the floor itself": (
                FLOOR + "    return loss(teacher_logits, teacher_logits, labels)\n",
                "this is the floor",
            ),
            "divided": (
                FLOOR
                + "    floor = loss(teacher_logits, teacher_logits, labels)\n"
                + "    return loss(student_logits, teacher_logits, labels) / floor\n",
                "divided by its floor",
            ),
            "the student against itself": (
                FLOOR
                + "    floor = loss(student_logits, student_logits, labels)\n"
                + "    return loss(student_logits, teacher_logits, labels) - floor\n",
                "against itself",
            ),
            "the wrong way round": (
                FLOOR
                + "    floor = loss(teacher_logits, teacher_logits, labels)\n"
                + "    return floor - loss(student_logits, teacher_logits, labels)\n",
                "the sign is the other way round",
            ),
            "kdlab's own": (
                FLOOR
                + "    from kdlab.loop import above_floor as own\n"
                + "    return own(loss, student_logits, teacher_logits, labels)\n",
                OWN,
            ),
        },
    },
    "causes": {
        "right": {
            "a dictionary": causes(),
            "by lists": "names = ['missing_input', 'shift', 'rate_too_high', 'floor', 'mispaired', 'dropout']\n"
            + "causes = dict(zip('ABCDEF', names))\n",
        },
        "wrong": {
            "all too small": (
                causes(**dict.fromkeys("ABCDEF", "too_small")),
                "A: not right yet: too_small would show in 'one_batch'",
            ),
            "the healthy one trained too slowly": (
                causes(D="rate_too_low"),
                "D: not right yet: rate_too_low would show in 'one_batch'",
            ),
            "the healthy one too small": (
                causes(D="too_small"),
                "D: not right yet: too_small would show in 'one_batch'",
            ),
            "wrong pairs and shifted rows": (
                causes(B="mispaired", E="shift"),
                "B: not right yet: mispaired would show in 'pairs'",
            ),
            "what is not read taken for wrong pairs": (
                causes(A="mispaired", E="missing_input"),
                "A: not right yet: mispaired would show in 'pairs'",
            ),
            "the noisy teacher taken for a floor": (
                causes(F="floor"),
                "F: not right yet: floor would show in 'itself'",
            ),
            "padding": (causes(C="mask"), "C: not right yet: mask would show in 'padding'"),
            "a name of one's own": (
                causes(C="learning rate"),
                "C: 'learning rate' is none of the names in CAUSES",
            ),
        },
    },
}
