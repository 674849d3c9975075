"""Answers to notebook 02: each stands for the whole exercise cell; a wrong one with what its check must say."""

COUNT = "def count_parameters(config):\n"
CHOOSE = "def choose_student(sizes, megabytes, bits):\n"
COPY = "def copy_alternate_layers(teacher, student):\n"
ROLES = "def set_roles(teacher, student):\n"
AGREEMENT = "def agreement(student_logits, teacher_logits, labels):\n"

PARTS = """\
    d, ffn_e, ffn_d = config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim
    attention, norm = 4 * (d * d + d), 2 * d
    encoder = attention + d * ffn_e + ffn_e + ffn_e * d + d + 2 * norm
    decoder = 2 * attention + d * ffn_d + ffn_d + ffn_d * d + d + 3 * norm
    embedding = config.vocab_size * d
    return config.encoder_layers * encoder + config.decoder_layers * decoder + embedding
"""
FITTING = "    fitting = {n: k for n, (p, k) in sizes.items() if p * bits / 8 <= megabytes * 10**6}\n"
BEST = "    return max(fitting, key=fitting.get, default=None)\n"
LOOPS = """\
    for side in ("encoder", "decoder"):
        old, new = getattr(teacher.model, side).layers, getattr(student.model, side).layers
        for i, layer in enumerate(new):
            layer.load_state_dict(old[2 * i].state_dict())
"""
EMBEDDING = "    student.model.shared.load_state_dict(teacher.model.shared.state_dict())\n"
FOUR_CALLS = """\
    teacher.eval()
    teacher.requires_grad_(False)
    student.train()
    student.requires_grad_(True)
"""
SAME = "    same = student_logits.argmax(-1) == teacher_logits.argmax(-1)\n"
OWN = "write this one yourself"


def changed(code, old, new):
    """The code with one place changed, which must be there."""
    assert old in code, old
    return code.replace(old, new)


ANSWERS = {
    "count_parameters": {
        "right": {
            "in one go": COUNT + PARTS,
            "a loop over the layers": COUNT
            + "    d = config.d_model\n"
            + "    total = d * config.vocab_size\n"
            + "    sides = [(1, config.encoder_ffn_dim)] * config.encoder_layers\n"
            + "    sides += [(2, config.decoder_ffn_dim)] * config.decoder_layers\n"
            + "    for attentions, ffn in sides:\n"
            + "        shapes = [(d, d)] * 4 * attentions + [(d, ffn), (ffn, d)]\n"
            + "        total += sum(a * b + b for a, b in shapes) + 2 * d * (attentions + 1)\n"
            + "    return total\n",
        },
        "wrong": {
            "biases forgotten": (
                COUNT
                + changed(PARTS, "(d * d + d)", "d * d")
                .replace(" + ffn_e + ffn_e * d + d", " + ffn_e * d")
                .replace(" + ffn_d + ffn_d * d + d", " + ffn_d * d"),
                "the biases of the linear layers are missing",
            ),
            "the embedding of source, target and output": (
                COUNT + changed(PARTS, "vocab_size * d", "vocab_size * d * 3"),
                "the embedding is counted more than once",
            ),
            "an output matrix of its own": (
                COUNT + changed(PARTS, "+ embedding", "+ 2 * embedding"),
                "the embedding is counted more than once",
            ),
            "layers alone": (COUNT + changed(PARTS, " + embedding\n", "\n"), "the embedding is missing"),
            "no cross-attention": (
                COUNT + changed(PARTS, "2 * attention", "attention"),
                "a decoder layer has a second attention",
            ),
            "a decoder like an encoder": (
                COUNT + changed(PARTS, "2 * attention", "attention").replace("3 * norm", "2 * norm"),
                "a decoder layer was counted like an encoder layer",
            ),
            "no norms": (
                COUNT + changed(PARTS, "norm = 4 * (d * d + d), 2 * d", "norm = 4 * (d * d + d), 0"),
                "the layer norms are missing",
            ),
            "norms without a bias": (
                COUNT + changed(PARTS, ", 2 * d\n", ", d\n"),
                "a layer norm has two numbers",
            ),
            "query, key and value alone": (
                COUNT + changed(PARTS, "4 * (d * d", "3 * (d * d"),
                "an attention has four linear layers",
            ),
            "times the heads": (
                COUNT
                + changed(
                    PARTS, "encoder = attention", "encoder = config.encoder_attention_heads * attention"
                ).replace("2 * attention", "2 * config.decoder_attention_heads * attention"),
                "the heads were multiplied in",
            ),
            "a model that is built, with its positions": (
                COUNT
                + "    from transformers import MarianMTModel\n"
                + "    return sum(p.numel() for p in MarianMTModel(config).parameters())\n",
                "write this one yourself",
            ),
            "one layer on each side": (
                COUNT
                + changed(PARTS, "config.encoder_layers * encoder", "encoder").replace(
                    "config.decoder_layers * decoder", "decoder"
                ),
                "one layer on each side was counted",
            ),
            "one width for both": (
                COUNT + changed(PARTS, "config.decoder_ffn_dim", "config.encoder_ffn_dim"),
                "encoder and decoder have their own width",
            ),
            "hard-coded": (COUNT + "    return 136\n", "right on the visible example"),
            "kdlab's own": (COUNT + "    return right_count(config)\n", OWN),
        },
    },
    "choose_student": {
        "right": {
            "max with a default": CHOOSE + FITTING + BEST,
            "a loop": CHOOSE
            + "    best, most = None, -1\n"
            + "    for name in sizes:\n"
            + "        parameters, layers = sizes[name]\n"
            + "        if parameters * (bits // 8) * 1e-6 <= megabytes + 1e-9 and layers > most:\n"
            + "            best, most = name, layers\n"
            + "    return best\n",
            "sorted": CHOOSE
            + "    room = megabytes * 8e6 / bits\n"
            + "    names = sorted(sizes, key=lambda name: sizes[name][1], reverse=True)\n"
            + "    return next((name for name in names if sizes[name][0] <= room), None)\n",
        },
        "wrong": {
            "bits for bytes": (
                CHOOSE + changed(FITTING, "bits / 8", "bits") + BEST,
                "a byte has 8 bits, a megabyte 10^6 bytes",
            ),
            "one byte each": (
                CHOOSE + changed(FITTING, "p * bits / 8", "p") + BEST,
                "every parameter was taken to need one byte",
            ),
            "2^20": (
                CHOOSE + changed(FITTING, "10**6", "2**20") + BEST,
                "a megabyte has 10^6 bytes here",
            ),
            "less than, not at most": (
                CHOOSE + changed(FITTING, "<=", "<") + BEST,
                "a student that fills the budget exactly fits as well",
            ),
            "the most parameters": (
                CHOOSE + changed(FITTING, "n: k", "n: p") + BEST,
                "this one has the most parameters of all kinds",
            ),
            "the smallest": (
                CHOOSE + FITTING + "    return min(fitting, key=fitting.get, default=None)\n",
                "this is the smallest that fits",
            ),
            "layers alone must fit": (
                CHOOSE + changed(FITTING, "if p *", "if k *") + BEST,
                "this one is too large: the embedding takes room as well",
            ),
            "no budget": (
                CHOOSE + "    return max(sizes, key=lambda name: sizes[name][1])\n",
                "this is the largest of all, whatever the budget",
            ),
            "no student that fits": (
                CHOOSE + FITTING + "    return max(fitting, key=fitting.get)\n",
                "stopped: ValueError: max() ",
            ),
            "the number, not the name": (
                CHOOSE + FITTING + "    return max(fitting.values(), default=None)\n",
                "the answer is an int, expected a str",
            ),
            "kdlab's own": (
                CHOOSE + "    return student_exercises.choose_student(sizes, megabytes, bits)\n",
                OWN,
            ),
        },
    },
    "copy_alternate_layers": {
        "right": {
            "zip and slices": COPY
            + "    new, old = student.model, teacher.model\n"
            + "    pairs = [*zip(new.encoder.layers, old.encoder.layers[::2]),\n"
            + "             *zip(new.decoder.layers, old.decoder.layers[::2]), (new.shared, old.shared)]\n"
            + "    for mine, its in pairs:\n"
            + "        mine.load_state_dict(its.state_dict())\n",
            "by the names of the parameters": COPY
            + "    import re\n"
            + "    weights = teacher.state_dict()\n"
            + "    double = lambda found: f'layers.{2 * int(found[1])}.'\n"
            + "    student.load_state_dict({name: weights[re.sub(r'layers\\.(\\d+)\\.', double, name)]\n"
            + "                             for name in student.state_dict()})\n",
            "parameter by parameter": COPY
            + "    with torch.no_grad():\n"
            + "        for side in ('encoder', 'decoder'):\n"
            + "            old = getattr(teacher.model, side).layers\n"
            + "            for i, layer in enumerate(getattr(student.model, side).layers):\n"
            + "                for a, b in zip(layer.parameters(), old[i * 2].parameters()):\n"
            + "                    a.copy_(b)\n"
            + "        student.model.shared.weight.copy_(teacher.model.shared.weight)\n",
        },
        "wrong": {
            "the teacher's own layers": (
                COPY
                + "    for i in range(len(student.model.encoder.layers)):\n"
                + "        student.model.encoder.layers[i] = teacher.model.encoder.layers[2 * i]\n"
                + "    for i in range(len(student.model.decoder.layers)):\n"
                + "        student.model.decoder.layers[i] = teacher.model.decoder.layers[2 * i]\n"
                + EMBEDDING,
                "is the teacher's own, not a copy",
            ),
            "the teacher's own embedding": (
                COPY + LOOPS + "    student.model.shared.weight = teacher.model.shared.weight\n",
                "is the teacher's own, not a copy",
            ),
            "the first layers": (
                COPY + changed(LOOPS, "2 * i", "i") + EMBEDDING,
                "these are the first layers of the encoder, not every other one",
            ),
            "all that has the same name": (
                COPY + "    student.load_state_dict(teacher.state_dict(), strict=False)\n",
                "these are the first layers of the encoder, not every other one",
            ),
            "from layer 1 on": (
                COPY + changed(LOOPS, "2 * i", "min(2 * i + 1, len(old) - 1)") + EMBEDDING,
                "layers 1, 3, ... were copied: begin with layer 0",
            ),
            "the last ones first": (
                COPY + changed(LOOPS, "enumerate(new)", "enumerate(reversed(new))") + EMBEDDING,
                "and not every other one in their order",
            ),
            "the decoder forgotten": (
                COPY + changed(LOOPS, '("encoder", "decoder")', '("encoder",)') + EMBEDDING,
                "the student's decoder is as it was: no layer has arrived",
            ),
            "the embedding forgotten": (
                COPY + LOOPS,
                "the layers are right, but the embedding is not the teacher's",
            ),
            "into a variable": (
                COPY
                + changed(
                    LOOPS,
                    "layer.load_state_dict(old[2 * i].state_dict())",
                    "layer = copy.deepcopy(old[2 * i])",
                ).replace("    for side", "    import copy\n    for side")
                + EMBEDDING,
                "the student's encoder is as it was: no layer has arrived",
            ),
            "a copy of each layer put in": (
                COPY
                + changed(
                    LOOPS,
                    "layer.load_state_dict(old[2 * i].state_dict())",
                    "new[i] = copy.deepcopy(old[2 * i])",
                ).replace("    for side", "    import copy\n    for side")
                + EMBEDDING,
                "the student has got new parameters",
            ),
            "matrices without their biases": (
                COPY
                + "    with torch.no_grad():\n"
                + "        for side in ('encoder', 'decoder'):\n"
                + "            old = getattr(teacher.model, side).layers\n"
                + "            for i, layer in enumerate(getattr(student.model, side).layers):\n"
                + "                for a, b in zip(layer.parameters(), old[i * 2].parameters()):\n"
                + "                    if a.dim() == 2:\n"
                + "                        a.copy_(b)\n"
                + EMBEDDING,
                "is, as a whole, none of the teacher's layers",
            ),
            "into the teacher": (
                COPY + changed(LOOPS, "layer.load_state_dict(old[2 * i]", "old[2 * i].load_state_dict(layer"),
                "the teacher has changed: copy from it, not into it",
            ),
            "all of the teacher's layers": (
                COPY
                + "    import copy\n"
                + "    student.model.encoder.layers = copy.deepcopy(teacher.model.encoder.layers)\n"
                + changed(LOOPS, '("encoder", "decoder")', '("decoder",)')
                + EMBEDDING,
                "layers now, and began with",
            ),
            "kdlab's own": (
                COPY
                + "    from kdlab.student_init import copied_student\n"
                + "    student = copied_student(teacher, encoder_layers=[0, 2], decoder_layers=[0, 2])\n",
                OWN,
            ),
        },
    },
    "set_roles": {
        "right": {
            "train(False)": ROLES
            + "    teacher.train(False).requires_grad_(False)\n"
            + "    student.train(True).requires_grad_()\n",
            "parameter by parameter": ROLES
            + "    for parameter in teacher.parameters():\n"
            + "        parameter.requires_grad = False\n"
            + "    for parameter in student.parameters():\n"
            + "        parameter.requires_grad = True\n"
            + "    for module in teacher.modules():\n"
            + "        module.training = False\n"
            + "    student.train()\n",
        },
        "wrong": {
            "eval mode for frozen": (
                ROLES + changed(FOUR_CALLS, "    teacher.requires_grad_(False)\n", ""),
                "the teacher is not frozen",
            ),
            "frozen, in train mode": (
                ROLES + changed(FOUR_CALLS, "    teacher.eval()\n", ""),
                "the teacher is still in train mode",
            ),
            "an attribute": (
                ROLES + changed(FOUR_CALLS, "teacher.requires_grad_(False)", "teacher.requires_grad = False"),
                "makes a new attribute",
            ),
            "eval without brackets": (
                ROLES + changed(FOUR_CALLS, "teacher.eval()", "teacher.eval"),
                "the teacher is still in train mode",
            ),
            "no_grad": (
                ROLES
                + "    with torch.no_grad():\n        teacher.eval()\n    student.train().requires_grad_(True)\n",
                "the teacher is not frozen",
            ),
            "both frozen": (
                ROLES + changed(FOUR_CALLS, "student.requires_grad_(True)", "student.requires_grad_(False)"),
                "the student cannot learn",
            ),
            "the student stays frozen": (
                ROLES + changed(FOUR_CALLS, "    student.requires_grad_(True)\n", ""),
                "the student cannot learn",
            ),
            "the student stays in eval mode": (
                ROLES + changed(FOUR_CALLS, "    student.train()\n", ""),
                "the student is in eval mode",
            ),
            "one matrix": (
                ROLES
                + changed(
                    FOUR_CALLS,
                    "teacher.requires_grad_(False)",
                    "next(teacher.parameters()).requires_grad_(False)",
                ),
                "the teacher is not frozen",
            ),
            "the outermost module alone": (
                ROLES + changed(FOUR_CALLS, "teacher.eval()", "teacher.training = False"),
                "the teacher is still in train mode",
            ),
            "roles exchanged": (
                ROLES
                + "    student.eval().requires_grad_(False)\n    teacher.train().requires_grad_(True)\n",
                "the teacher is not frozen",
            ),
            "zeroed": (
                ROLES
                + FOUR_CALLS
                + "    for parameter in student.parameters():\n        parameter.data.zero_()\n",
                "the student's weights have changed",
            ),
            "kdlab's own": (
                ROLES + "    LiveTeacher(teacher)\n    student.train().requires_grad_(True)\n",
                OWN,
            ),
        },
    },
    "agreement": {
        "right": {
            "sums": AGREEMENT
            + SAME
            + "    counted = labels != -100\n"
            + "    return (same & counted).sum() / counted.sum()\n",
            "loops": AGREEMENT
            + "    found = []\n"
            + "    for s, t, row in zip(student_logits, teacher_logits, labels):\n"
            + "        for i, label in enumerate(row.tolist()):\n"
            + "            if label != -100:\n"
            + "                found.append(int(s[i].argmax()) == int(t[i].argmax()))\n"
            + "    return sum(found) / len(found)\n",
            "topk": AGREEMENT
            + "    kept = labels != -100\n"
            + "    best = [x[kept].topk(1).indices for x in (student_logits, teacher_logits)]\n"
            + "    return (best[0] == best[1]).double().mean().item()\n",
        },
        "wrong": {
            "padding counted": (AGREEMENT + SAME + "    return same.float().mean()\n", "padding is counted"),
            "padding in the denominator": (
                AGREEMENT + SAME + "    return (same & (labels != -100)).sum() / labels.numel()\n",
                "the number of tokens that it is divided by does not",
            ),
            "a count": (
                AGREEMENT + SAME + "    return same[labels != -100].sum()\n",
                "the sum was not divided by the number of tokens",
            ),
            "the mean of the sentences": (
                AGREEMENT
                + SAME
                + "    counted = labels != -100\n"
                + "    return ((same & counted).sum(-1) / counted.sum(-1)).mean()\n",
                "the mean is over the batch, not over the tokens",
            ),
            "accuracy": (
                AGREEMENT
                + "    return (student_logits.argmax(-1) == labels)[labels != -100].float().mean()\n",
                "the student is compared with the labels",
            ),
            "per cent": (
                AGREEMENT + SAME + "    return 100 * same[labels != -100].float().mean()\n",
                "these are per cent",
            ),
            "differences": (
                AGREEMENT + SAME + "    return (~same)[labels != -100].float().mean()\n",
                "this is how often they differ",
            ),
            "the values": (
                AGREEMENT
                + "    same = student_logits.max(-1).values == teacher_logits.max(-1).values\n"
                + "    return same[labels != -100].float().mean()\n",
                "the most probable token must be the same, not its logit",
            ),
            "wrong axis": (
                AGREEMENT
                + "    return (student_logits.argmax(1) == teacher_logits.argmax(1)).float().mean()\n",
                "the argmax is over the wrong axis",
            ),
            "one for each sentence": (
                AGREEMENT
                + SAME
                + "    counted = labels != -100\n"
                + "    return (same & counted).sum(-1) / counted.sum(-1)\n",
                "the shape is [5], expected []",
            ),
            "hard-coded": (AGREEMENT + "    return torch.tensor(0.5)\n", "not right yet"),
            "kdlab's own": (
                AGREEMENT + "    return kdlab.evaluation.agreement(student_logits, teacher_logits, labels)\n",
                OWN,
            ),
        },
    },
}
