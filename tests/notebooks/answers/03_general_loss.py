"""Answers to notebook 03: each stands for the whole exercise cell; a wrong one with what its check must say."""

FORWARD = "def forward_kl(student_logits, teacher_logits):\n"
REVERSE = "def reverse_kl(student_logits, teacher_logits):\n"
JSD = "def generalized_jsd(student_logits, teacher_logits, beta):\n"
TV = "def total_variation(student_logits, teacher_logits):\n"
D_FORWARD = "def d_forward_kl(student_logits, teacher_logits):\n"
D_REVERSE = "def d_reverse_kl(student_logits, teacher_logits):\n"
GENERAL = "def general_loss(divergence, teacher, student, x, simplify):\n"

P_AND_Q = "    p, q = teacher_logits.detach().softmax(-1), student_logits.softmax(-1)\n"
NOT_DETACHED = "    p, q = teacher_logits.softmax(-1), student_logits.softmax(-1)\n"
LIMITS = """\
    if beta == 0:
        return (p * (p / q).log()).sum(-1)
    if beta == 1:
        return (q * (q / p).log()).sum(-1)
"""
MIXED = "    m = beta * p + (1 - beta) * q\n"
KL_OF_LOGITS = """\
    def kl(one, other):
        return (one.softmax(-1) * (one.log_softmax(-1) - other.log_softmax(-1))).sum(-1)
"""
JSD_OF_M = "    return beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)\n"


def table(symmetric, bounded, finite_teacher_0, finite_student_0, triangle):
    """The five sets, names separated by spaces."""
    sets = {
        "symmetric": symmetric,
        "bounded": bounded,
        "finite_teacher_0": finite_teacher_0,
        "finite_student_0": finite_student_0,
        "triangle": triangle,
    }
    return f"properties = { {key: set(names.split()) for key, names in sets.items()} }"


RIGHT = {
    "symmetric": "jsd total_variation",
    "bounded": "jsd total_variation",
    "finite_teacher_0": "forward_kl jsd total_variation",
    "finite_student_0": "reverse_kl jsd total_variation",
    "triangle": "total_variation",
}

ANSWERS = {
    "forward_kl": {
        "right": {
            "kl_div": FORWARD
            + "    import torch.nn.functional as F\n"
            + "    q = student_logits.log_softmax(-1)\n"
            + '    return F.kl_div(q, teacher_logits.detach().softmax(-1), reduction="none").sum(-1)\n',
            "loop over the words": FORWARD
            + "    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)\n"
            + "    total = torch.zeros(student_logits.shape[:-1])\n"
            + "    for v in range(student_logits.shape[-1]):\n"
            + "        term = log_p[..., v].exp() * (log_p[..., v] - log_q[..., v])\n"
            + "        total = total + term.nan_to_num(0.0)\n"
            + "    return total\n",
            "cross-entropy less entropy": FORWARD
            + "    p = teacher_logits.detach().softmax(-1)\n"
            + "    cross_entropy = -(p * student_logits.log_softmax(-1)).sum(-1)\n"
            + "    return cross_entropy + torch.xlogy(p, p).sum(-1)\n",
        },
        "wrong": {
            "reversed": (
                FORWARD + P_AND_Q + "    return (q * (q.log() - p.log())).sum(-1)\n",
                "this is KL the other way round",
            ),
            "cross-entropy": (
                FORWARD
                + "    return -(teacher_logits.softmax(-1) * student_logits.log_softmax(-1)).sum(-1)\n",
                "this is cross-entropy, not KL: the teacher's entropy is still in it",
            ),
            "mean over the words": (
                FORWARD + P_AND_Q + "    return (p * (p.log() - q.log())).mean(-1)\n",
                "a mean was taken where the sum is asked for",
            ),
            "base 2": (
                FORWARD + P_AND_Q + "    return (p * (p.log2() - q.log2())).sum(-1)\n",
                "log base 2, not natural",
            ),
            "sign": (
                FORWARD + P_AND_Q + "    return (p * (q.log() - p.log())).sum(-1)\n",
                "the sign is the other way round",
            ),
            "softmax twice": (
                FORWARD
                + P_AND_Q
                + "    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)\n",
                "softmax was taken twice",
            ),
            "zero times infinity": (
                FORWARD
                + "    q, p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)\n"
                + "    return (p.exp() * (p - q)).sum(-1)\n",
                "NaN where a logit is -inf",
            ),
            "teacher not detached": (
                FORWARD + NOT_DETACHED + "    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(-1)\n",
                "the teacher is not detached",
            ),
            "one number": (
                FORWARD + P_AND_Q + "    return (p * (p.log() - q.log())).sum()\n",
                "the shape is [], expected [2, 3]",
            ),
            "kdlab's own": (
                FORWARD + '    return kdlab.forward_kl(student_logits, teacher_logits, reduction="none")\n',
                "write this one yourself",
            ),
            "logarithm of the softmax": (
                FORWARD + P_AND_Q + "    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(-1)\n",
                "inf or NaN for large logits",
            ),
            "kdlab's, by its limit": (
                FORWARD
                + "    return kdlab.alpha_divergence(student_logits, teacher_logits, alpha=1.0, "
                + 'reduction="none")\n',
                "write this one yourself",
            ),
        },
    },
    "reverse_kl": {
        "right": {
            "by the ratio": REVERSE + P_AND_Q + "    return (q * (q / p).log()).sum(-1)\n",
            "torch.distributions": REVERSE
            + "    from torch.distributions import Categorical, kl_divergence\n"
            + "    teacher = Categorical(logits=teacher_logits.detach())\n"
            + "    return kl_divergence(Categorical(logits=student_logits), teacher)\n",
            "no_grad": REVERSE
            + "    with torch.no_grad():\n"
            + "        log_p = teacher_logits.log_softmax(-1)\n"
            + "    log_q = student_logits.log_softmax(-1)\n"
            + '    return torch.einsum("...v,...v->...", log_q.exp(), log_q - log_p)\n',
        },
        "wrong": {
            "forward": (
                REVERSE + P_AND_Q + "    return (p * (p / q).log()).sum(-1)\n",
                "this is KL the other way round",
            ),
            "teacher not detached": (
                REVERSE + NOT_DETACHED + "    return (q * (q / p).log()).sum(-1)\n",
                "the teacher is not detached",
            ),
            "student's weights detached": (
                REVERSE + P_AND_Q + "    return (q.detach() * (q / p).log()).sum(-1)\n",
                "the value is right, its gradient with respect to student_logits is not",
            ),
            "all detached": (
                REVERSE + P_AND_Q + "    return (q * (q / p).log()).sum(-1).detach()\n",
                "the value is right, but no gradient arrives at student_logits",
            ),
            "cross-entropy": (
                REVERSE + P_AND_Q + "    return -(q * p.log()).sum(-1)\n",
                "this is cross-entropy, not KL: the student's entropy is still in it",
            ),
            "negative of forward": (
                REVERSE + P_AND_Q + "    return -(q * (q / p).log()).sum(-1)\n",
                "the sign is the other way round",
            ),
            "impossible words left out": (
                REVERSE
                + P_AND_Q
                + "    return torch.where(p > 0, q * (q.log() - p.clamp(min=1e-30).log()), 0.0).sum(-1)\n",
                "expected inf",
            ),
            "wrong axis": (
                REVERSE
                + "    q, p = student_logits.softmax(0), teacher_logits.detach().softmax(0)\n"
                + "    return (q * (q / p).log()).sum(0)\n",
                "the softmax is over the wrong axis",
            ),
        },
    },
    "generalized_jsd": {
        "right": {
            "by the ratio": JSD + P_AND_Q + LIMITS + MIXED + JSD_OF_M,
            "by a KL of its own": JSD
            + KL_OF_LOGITS
            + P_AND_Q
            + LIMITS
            + "    m = (beta * p + (1 - beta) * q).log()\n"
            + "    return beta * kl(p.log(), m) + (1 - beta) * kl(q.log(), m)\n",
            "logaddexp": JSD
            + "    log_p, log_q = teacher_logits.detach().log_softmax(-1), student_logits.log_softmax(-1)\n"
            + "    if beta in (0, 1):\n"
            + "        a, b = (log_p, log_q) if beta == 0 else (log_q, log_p)\n"
            + "        return (a.exp() * (a - b)).sum(-1)\n"
            + "    weight = torch.tensor(float(beta))\n"
            + "    log_m = torch.logaddexp(weight.log() + log_p, (1 - weight).log() + log_q)\n"
            + "    parts = [(z.exp() * (z - log_m)).sum(-1) for z in (log_p, log_q)]\n"
            + "    return beta * parts[0] + (1 - beta) * parts[1]\n",
            "entropy of the mixture": JSD
            + "    log_p, log_q = teacher_logits.detach().log_softmax(-1), student_logits.log_softmax(-1)\n"
            + "    p, q = log_p.exp(), log_q.exp()\n"
            + "    if beta == 0:\n        return (p * (log_p - log_q)).sum(-1)\n"
            + "    if beta == 1:\n        return (q * (log_q - log_p)).sum(-1)\n"
            + "    H = lambda x: -torch.xlogy(x, x).sum(-1)\n"
            + "    return H(beta * p + (1 - beta) * q) - beta * H(p) - (1 - beta) * H(q)\n",
        },
        "wrong": {
            "no limits": (
                JSD + P_AND_Q + MIXED + JSD_OF_M,
                "at beta = 0 and beta = 1 this tends to 0, where the contract asks for a KL",
            ),
            "limits swapped": (
                JSD
                + P_AND_Q
                + LIMITS.replace("== 0", "== 2").replace("== 1", "== 0").replace("== 2", "== 1")
                + MIXED
                + JSD_OF_M,
                "at beta = 0 and beta = 1 the two KLs have changed places",
            ),
            "beta swapped": (
                JSD + "    beta = 1 - beta\n" + P_AND_Q + LIMITS + MIXED + JSD_OF_M,
                "beta and 1 - beta have changed places",
            ),
            "mixture swapped": (
                JSD + P_AND_Q + LIMITS + "    m = (1 - beta) * p + beta * q\n" + JSD_OF_M,
                "the mixture m has the weights of p and q the wrong way round",
            ),
            "mixture of logarithms": (
                JSD + P_AND_Q + LIMITS + "    m = (beta * p.log() + (1 - beta) * q.log()).exp()\n" + JSD_OF_M,
                "the mixture m is of logarithms, not of probabilities",
            ),
            "equal weights": (
                JSD
                + P_AND_Q
                + LIMITS
                + MIXED
                + "    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2\n",
                "the two parts are added with equal weights, whatever beta is",
            ),
            "mixture of logits": (
                JSD
                + P_AND_Q
                + LIMITS
                + "    m = (beta * teacher_logits + (1 - beta) * student_logits).softmax(-1)\n"
                + JSD_OF_M,
                "the mixture m is of logarithms, not of probabilities",
            ),
            "teacher not detached": (
                JSD + NOT_DETACHED + LIMITS + MIXED + JSD_OF_M,
                "the teacher is not detached",
            ),
            "divided": (
                JSD
                + P_AND_Q
                + LIMITS
                + MIXED
                + JSD_OF_M.replace("return ", "value = ")
                + "    return value / (beta * (1 - beta))\n",
                "the formula is divided by beta (1 - beta)",
            ),
            "probabilities for logits": (
                JSD
                + KL_OF_LOGITS
                + P_AND_Q
                + LIMITS
                + MIXED
                + "    return beta * kl(p, m) + (1 - beta) * kl(q, m)\n",
                "probabilities were handed over as logits",
            ),
            "the mixture for logits": (
                JSD
                + KL_OF_LOGITS
                + P_AND_Q
                + LIMITS
                + MIXED
                + "    return beta * kl(teacher_logits.detach(), m) + (1 - beta) * kl(student_logits, m)\n",
                "probabilities were handed over as logits",
            ),
            "kdlab's own": (
                JSD
                + "    return kdlab.generalized_jsd(student_logits, teacher_logits, beta=beta, "
                + 'reduction="none")\n',
                "write this one yourself",
            ),
        },
    },
    "total_variation": {
        "right": {
            "what the teacher has more": TV + P_AND_Q + "    return (p - q).clamp(min=0).sum(-1)\n",
            "norm": TV + P_AND_Q + "    return torch.linalg.vector_norm(p - q, ord=1, dim=-1) / 2\n",
        },
        "wrong": {
            "no half": (TV + P_AND_Q + "    return (p - q).abs().sum(-1)\n", "the factor 1/2 is missing"),
            "of the logits": (
                TV + "    return (teacher_logits - student_logits).abs().sum(-1) / 2\n",
                "the logits were compared, not the probabilities",
            ),
            "of the logarithms": (
                TV + P_AND_Q + "    return (p.log() - q.log()).abs().sum(-1) / 2\n",
                "the log-probabilities were compared, not the probabilities",
            ),
            "teacher not detached": (
                TV + NOT_DETACHED + "    return (p - q).abs().sum(-1) / 2\n",
                "the teacher is not detached",
            ),
            "squares": (
                TV + P_AND_Q + "    return (p - q).square().sum(-1) / 2\n",
                "the differences are squared: their absolute values are asked for",
            ),
            "absolute value of the sum": (
                TV + P_AND_Q + "    return (p - q).sum(-1).abs() / 2\n",
                "the absolute value is missing",
            ),
            "mean": (
                TV + P_AND_Q + "    return (p - q).abs().mean(-1) / 2\n",
                "a mean was taken where the sum is asked for",
            ),
        },
    },
    "properties": {
        "right": {
            "sets": table(**RIGHT),
            "lists": table(**RIGHT).replace("properties = ", "of_sets = ")
            + "\nproperties = {key: sorted(names) for key, names in of_sets.items()}",
        },
        "wrong": {
            "KL is a distance": (
                table(**RIGHT | {"symmetric": "forward_kl reverse_kl jsd total_variation"}),
                "symmetric: not right yet: forward_kl contradicts it",
            ),
            "every loss is bounded": (
                table(**RIGHT | {"bounded": "forward_kl jsd total_variation"}),
                "bounded: not right yet: forward_kl contradicts it",
            ),
            "the two zeros exchanged": (
                table(
                    **RIGHT
                    | {
                        "finite_teacher_0": RIGHT["finite_student_0"],
                        "finite_student_0": RIGHT["finite_teacher_0"],
                    }
                ),
                "finite_teacher_0: not right yet: reverse_kl contradicts it",
            ),
            "JSD is a distance": (
                table(**RIGHT | {"triangle": "jsd total_variation"}),
                "triangle: not right yet: jsd contradicts it",
            ),
            "JSD is infinite like KL": (
                table(**RIGHT | {"finite_student_0": "reverse_kl total_variation"}),
                "finite_student_0: not right yet: 1 more hold",
            ),
            "a string": (
                table(**RIGHT).replace("{'total_variation'}", "'total_variation'"),
                "triangle: not right yet: a string; expected a set, such as {'total_variation'}",
            ),
            "another name": (
                table(**RIGHT | {"triangle": "tv"}),
                "triangle: 'tv' is none of the four names",
            ),
        },
    },
    "d_forward_kl": {
        "right": {
            "logarithms": D_FORWARD
            + "    return student_logits.log_softmax(-1).exp() - teacher_logits.log_softmax(-1).exp()\n",
            "word by word": D_FORWARD
            + P_AND_Q
            + "    out = torch.empty_like(q)\n"
            + "    for v in range(q.shape[-1]):\n"
            + "        moved = torch.zeros_like(q)\n"
            + "        moved[..., v] = 1\n"
            + "        out[..., v] = -(p * (moved - q[..., v : v + 1])).sum(-1)\n"
            + "    return out\n",
        },
        "wrong": {
            "teacher minus student": (
                D_FORWARD + P_AND_Q + "    return p - q\n",
                "the sign is the other way round",
            ),
            "by the probabilities": (
                D_FORWARD + P_AND_Q + "    return -p / q\n",
                "this is the gradient with respect to the student's probabilities",
            ),
            "denominator forgotten": (
                D_FORWARD + P_AND_Q + "    return -p\n",
                "one logit moves every probability, and here it moves one alone",
            ),
            "difference of the logits": (
                D_FORWARD + "    return student_logits - teacher_logits\n",
                "these are differences of logits, and not of probabilities",
            ),
            "autograd": (
                D_FORWARD
                + "    leaf = student_logits.detach().requires_grad_()\n"
                + "    p = teacher_logits.softmax(-1)\n"
                + "    loss = (p * (p.log() - leaf.log_softmax(-1))).sum()\n"
                + "    return torch.autograd.grad(loss, leaf)[0]\n",
                "autograd is switched off here",
            ),
        },
    },
    "d_reverse_kl": {
        "right": {
            "the Jacobian of the softmax": D_REVERSE
            + P_AND_Q
            + "    jacobian = torch.diag_embed(q) - q.unsqueeze(-1) * q.unsqueeze(-2)\n"
            + "    return (jacobian @ (q.log() - p.log()).unsqueeze(-1)).squeeze(-1)\n",
            "two terms": D_REVERSE
            + P_AND_Q
            + "    weighted = q * (q / p).log()\n"
            + "    return weighted - q * weighted.sum(-1, keepdim=True)\n",
        },
        "wrong": {
            "that of forward KL": (
                D_REVERSE + P_AND_Q + "    return q - p\n",
                "this is the gradient of forward KL",
            ),
            "mean forgotten": (
                D_REVERSE + P_AND_Q + "    return q * (q / p).log()\n",
                "one logit moves every probability, and here it moves one alone",
            ),
            "by the probabilities": (
                D_REVERSE + P_AND_Q + "    return (q / p).log() + 1\n",
                "this is the gradient with respect to the student's probabilities",
            ),
            "p and q swapped": (
                D_REVERSE
                + P_AND_Q
                + "    r = (p / q).log()\n    return p * (r - (p * r).sum(-1, keepdim=True))\n",
                "p and q have changed places",
            ),
            "unweighted mean": (
                D_REVERSE
                + P_AND_Q
                + "    r = (q / p).log()\n    return q * (r - r.mean(-1, keepdim=True))\n",
                "the mean of r is weighted by p_s",
            ),
            "unweighted sum": (
                D_REVERSE + P_AND_Q + "    r = (q / p).log()\n    return q * (r - r.sum(-1, keepdim=True))\n",
                "the mean of r is weighted by p_s",
            ),
            "difference of the logits": (
                D_REVERSE + "    return student_logits - teacher_logits\n",
                "these are differences of logits, and not of probabilities",
            ),
            "sign": (
                D_REVERSE
                + P_AND_Q
                + "    r = (p / q).log()\n    return q * (r - (q * r).sum(-1, keepdim=True))\n",
                "the sign is the other way round",
            ),
        },
    },
    "general_loss": {
        "right": {
            "detach": GENERAL
            + "    context, sentence = x\n"
            + "    fixed = teacher(context, sentence).detach()\n"
            + "    return torch.sum(divergence(student(simplify(context), sentence), fixed))\n",
            "place by place": GENERAL
            + "    with torch.no_grad():\n"
            + "        t = teacher(*x)\n"
            + "    s = student(simplify(x[0]), x[1])\n"
            + "    return sum(divergence(s[i : i + 1], t[i : i + 1])[0] for i in range(len(s)))\n",
        },
        "wrong": {
            "student reads c": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(student(c, z), teacher(c, z).detach()).sum()\n",
                "the student read the full context c",
            ),
            "teacher reads c'": (
                GENERAL
                + "    c, z = simplify(x[0]), x[1]\n"
                + "    return divergence(student(c, z), teacher(c, z).detach()).sum()\n",
                "the teacher read the simplified context",
            ),
            "sentence first": (
                GENERAL
                + "    z, c = x\n"
                + "    return divergence(student(simplify(c), z), teacher(c, z).detach()).sum()\n",
                "x is (c, z), and a model takes (c, z): the context comes first",
            ),
            "teacher asked the other way round": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(student(simplify(c), z), teacher(z, c).detach()).sum()\n",
                "x is (c, z), and a model takes (c, z): the context comes first",
            ),
            "contexts exchanged": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(student(c, z), teacher(simplify(c), z).detach()).sum()\n",
                "each read the other's context",
            ),
            "teacher first": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(teacher(c, z).detach(), student(simplify(c), z)).sum()\n",
                "the divergence takes the student's logits first",
            ),
            "mean": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(student(simplify(c), z), teacher(c, z).detach()).mean()\n",
                "the mean over the places, not their sum",
            ),
            "teacher not frozen": (
                GENERAL
                + "    c, z = x\n"
                + "    return divergence(student(simplify(c), z), teacher(c, z)).sum()\n",
                "the teacher is not detached",
            ),
            "student frozen too": (
                GENERAL
                + "    c, z = x\n"
                + "    with torch.no_grad():\n"
                + "        return divergence(student(simplify(c), z), teacher(c, z)).sum()\n",
                "the value is right, but no gradient arrives at student_logits",
            ),
            "always forward KL": (
                GENERAL
                + "    c, z = x\n"
                + "    p = teacher(c, z).detach().log_softmax(-1)\n"
                + "    return (p.exp() * (p - student(simplify(c), z).log_softmax(-1))).sum()\n",
                "another divergence was given",
            ),
        },
    },
}
