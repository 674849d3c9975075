"""The same numbers from trl, liger-kernel and torch, where they define the same thing.

Where they do not, and what the tests do about it:

- trl's `generalized_jsd_loss` has our beta (0 forward KL, 1 reverse KL, the teacher's weight in the mixture)
  and our mean over counted tokens, but never multiplies by T^2, has no cross-entropy and knows -100 alone.
- liger-kernel's chunked JSD has the same beta, does not multiply by T^2 either, and takes hidden states and
  heads instead of logits. Its hard loss is a mean over the same tokens, so its weights are ours. Its Triton
  kernels need a GPU; this one is plain torch.
- torch's `kl_div` takes the student first and log-probabilities; its "batchmean" divides by the first axis
  alone, so it is ours for [tokens, vocabulary] only. `cross_entropy` with soft targets is H(p) + KL.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
from torch.nn import functional
from transformers import GenerationConfig

from kdlab import DistillationLoss, distillation_loss, forward_kl, generalized_jsd, reverse_kl
from kdlab.model_io import target_labels, target_logits
from kdlab.on_policy import OnPolicy
from kdlab.teachers import LiveTeacher
from kdlab.text.causal import collate_causal, pad_prompts
from tests.unit.reference import random_logits, value_and_gradient
from tests.unit.tiny_models import EXAMPLES, decoder_only

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl.experimental.gkd import GKDTrainer

BETAS = pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.7, 1.0])
TEMPERATURES = pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
LABELS = torch.tensor([[0, 5, -100, 2], [3, -100, -100, 1]])


def trl_loss(student, teacher, labels=None, **options):
    """Value and gradient of trl's."""
    leaf = student.clone().requires_grad_()
    value = GKDTrainer.generalized_jsd_loss(leaf, teacher, labels, **options)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def close(one, two, tolerance: float = 1e-9) -> None:
    for x, y in zip(one, two, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@BETAS
@TEMPERATURES
@pytest.mark.parametrize("labels", [LABELS, torch.full_like(LABELS, -100)], ids=["some", "none"])
@pytest.mark.parametrize("reduction", ["batchmean", "sum"])
def test_trl(beta, temperature, labels, reduction) -> None:
    student, teacher = random_logits(2, 4, 6)
    options = {"beta": beta, "temperature": temperature, "reduction": reduction}
    ours = value_and_gradient(
        student, teacher, labels, divergence="generalized_jsd", temperature_scaling=False, **options
    )
    close(ours, trl_loss(student, teacher, labels, **options))


@BETAS
def test_trl_with_the_number_of_tokens_of_the_whole_batch(beta) -> None:
    student, teacher = random_logits(2, 4, 6)
    options = {"beta": beta, "num_items_in_batch": torch.tensor(11)}
    ours = value_and_gradient(student, teacher, LABELS, divergence="generalized_jsd", **options)
    close(ours, trl_loss(student, teacher, LABELS, **options))


@BETAS
def test_trl_on_the_student_s_own_completions(beta) -> None:
    """The prompt and what follows eos are masked, the first token predicted from the prompt's last.

    trl draws each row after its padding and scores it there, without positions: only for a Llama, whose positions are
    relative, is that the same. So are the draws at a temperature near 0, the most probable tokens.
    """
    student, teacher = decoder_only(), decoder_only(seed=1)
    prompts = [example.source_ids for example in EXAMPLES]
    ids, mask = pad_prompts(prompts, 0)
    config = GenerationConfig(max_new_tokens=9, do_sample=False, eos_token_id=1, pad_token_id=0)
    inputs = {"prompts": ids, "prompt_attention_mask": mask}
    given = GKDTrainer.generate_on_policy_outputs(student, inputs, config)
    given = dict(zip(("input_ids", "attention_mask", "labels"), given, strict=True))
    batch = collate_causal(EXAMPLES, pad_token_id=0)
    (made,) = OnPolicy(temperature=1e-4, max_length=9).replace(student, [batch], seed=0, update=0)
    ours, theirs = (
        [[token for token in row if token != -100] for row in found["labels"].tolist()]
        for found in (made, given)
    )
    assert ours == theirs
    assert len({len(row) for row in ours}) > 1  # some reached eos
    loss = generalized_jsd(
        target_logits(student, made), LiveTeacher(teacher)(made), target_labels(made), beta=beta
    )
    trainer = SimpleNamespace(
        teacher_model=teacher, beta=beta, generalized_jsd_loss=GKDTrainer.generalized_jsd_loss
    )
    # Rotations by another position are rounded otherwise, in float32.
    torch.testing.assert_close(loss, GKDTrainer.compute_loss(trainer, student, given), rtol=1e-6, atol=0)


def test_trl_keeps_the_vocabulary_where_we_sum_it() -> None:
    """reduction="none": trl gives the terms of the counted tokens, we give every token its sum."""
    student, teacher = random_logits(2, 4, 6)
    theirs, _ = trl_loss(student, teacher, LABELS, reduction="none")
    assert theirs.shape == (5, 6)
    ours = distillation_loss(student, teacher, LABELS, divergence="generalized_jsd", reduction="none")
    close([ours[LABELS != -100]], [theirs.sum(-1)])


def heads(bias: bool):
    """Hidden states and heads of a narrow student and a wide teacher over six words, float64."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    student = [draw(8, 3), draw(6, 3), draw(6) if bias else None]
    teacher = [draw(8, 5), draw(6, 5), draw(6) if bias else None]
    for tensor in student:
        if tensor is not None:
            tensor.requires_grad_()
    return student, teacher


@BETAS
@TEMPERATURES
@pytest.mark.parametrize(("ce_weight", "bias"), [(0.0, False), (0.3, True)])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_liger_chunked_jsd(beta, temperature, ce_weight, bias, ignore_index) -> None:
    """Value, and the gradient down to hidden states and head. Their accumulator is float32, so 1e-6."""
    student, teacher = heads(bias)
    labels = LABELS.reshape(8)
    labels = torch.where(labels == -100, ignore_index, torch.where(labels == 2, 4, labels))
    theirs = LigerFusedLinearJSDLoss(
        weight_hard_loss=ce_weight,
        weight_soft_loss=1 - ce_weight,
        beta=beta,
        ignore_index=ignore_index,
        temperature=temperature,
        compiled=False,
        chunk_size=3,
    )(student[0], student[1], teacher[0], teacher[1], labels, student[2], teacher[2])
    ours = DistillationLoss(
        divergence="generalized_jsd",
        beta=beta,
        ce_weight=ce_weight,
        temperature=temperature,
        temperature_scaling=False,
        ignore_index=ignore_index,
    )(functional.linear(*student), functional.linear(*teacher), labels)
    leaves = [tensor for tensor in student if tensor is not None]
    close([ours.float()], [theirs.float()], 1e-5)
    # their hard loss goes through float32
    close(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), 1e-6)


def test_liger_pads_a_shorter_student_with_zeros_and_we_refuse() -> None:
    """Mistake 7, as it stands in the peer: mass leaks into a word that the student does not have."""
    student, teacher = heads(bias=False)
    labels = torch.zeros(8, dtype=torch.int64)
    theirs = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=False)
    leaked = theirs(student[0], student[1][:5], teacher[0], teacher[1], labels)
    logits = functional.linear(student[0], student[1][:5]), functional.linear(teacher[0], teacher[1])
    with pytest.raises(ValueError, match="got a vocabulary of 6, expected the student's 5"):
        distillation_loss(*logits, labels, divergence="generalized_jsd")
    padded = functional.pad(logits[0], (0, 1))
    close(
        [distillation_loss(padded, logits[1], divergence="generalized_jsd").float()], [leaked.float()], 1e-5
    )


@TEMPERATURES
def test_torch_kl_div(temperature) -> None:
    student, teacher = random_logits(8, 6)
    q, p = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    options = {"temperature": temperature, "temperature_scaling": False}
    expected = functional.kl_div(q, p, reduction="batchmean", log_target=True)
    close([forward_kl(student, teacher, **options)], [expected])
    close(
        [reverse_kl(student, teacher, **options)],
        [functional.kl_div(p, q, reduction="batchmean", log_target=True)],
    )


@TEMPERATURES
def test_torch_cross_entropy_with_soft_targets(temperature) -> None:
    """The recipe of many tutorials: T^2 CE(p, q), which is our loss and the teacher's entropy."""
    student, teacher = random_logits(8, 6)
    p = (teacher / temperature).softmax(-1)
    leaf = student.clone().requires_grad_()
    theirs = temperature**2 * functional.cross_entropy(leaf / temperature, p)
    entropy = temperature**2 * torch.distributions.Categorical(p).entropy().mean()
    ours, slope = value_and_gradient(student, teacher, temperature=temperature)
    close([ours + entropy, slope], [theirs.detach(), torch.autograd.grad(theirs, leaf)[0]])


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_torch_cross_entropy_with_labels(ignore_index) -> None:
    student, teacher = random_logits(8, 6)
    labels = torch.tensor([0, 5, 2, 4, -100, 1, 3, 0]).masked_fill(torch.arange(8) == 4, ignore_index)
    leaf = student.clone().requires_grad_()
    theirs = functional.cross_entropy(leaf, labels, ignore_index=ignore_index)
    ours = value_and_gradient(student, teacher, labels, ce_weight=1.0, ignore_index=ignore_index)
    close(ours, [theirs.detach(), torch.autograd.grad(theirs, leaf)[0]])
