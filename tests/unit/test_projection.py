"""The best projection against Eckart and Young's closed form, and what a projected student reads and says."""

from __future__ import annotations

import math

import pytest
import torch

from kdlab.projection import best_projection, projected_student
from kdlab.student_init import fresh_student
from kdlab.students import Architecture
from tests.unit.kinds import ENCODER_DECODER, KINDS, logits, teacher_of

WIDTH, NARROW = 24, 12


def architecture_of(kind, width=NARROW):
    return Architecture(width, 2 if kind in ENCODER_DECODER else 0, 1, 20, heads=2)


@pytest.mark.parametrize("rank", [1, 3, 7, 10])
@pytest.mark.parametrize("rows", [40, 6])  # more rows than columns, and fewer
def test_best_projection_loses_the_other_singular_values(rows, rank):
    generator = torch.Generator().manual_seed(rows)
    matrix = torch.randn(rows, 10, generator=generator, dtype=torch.float64) + 0.5
    basis = best_projection(matrix, rank)
    singular = torch.linalg.svdvals(matrix)
    lost = torch.linalg.matrix_norm(matrix - matrix @ basis @ basis.T) ** 2
    assert lost.item() == pytest.approx((singular[rank:] ** 2).sum().item(), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(basis.T @ basis, torch.eye(rank, dtype=torch.float64), atol=1e-12, rtol=0)
    if rank < 10:
        other, _ = torch.linalg.qr(basis + 0.1 * torch.randn(basis.shape, generator=generator).double())
        assert torch.linalg.matrix_norm(matrix - matrix @ other @ other.T) ** 2 > lost - 1e-12


def test_signs_do_not_depend_on_the_library():
    matrix = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    first, second = best_projection(matrix, 4), best_projection(-matrix, 4)
    torch.testing.assert_close(first, second)
    assert (first.gather(0, first.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("rank", [0, 11])
def test_other_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=f"^rank: got {rank}, expected 1 to 10"):
        best_projection(torch.ones(3, 10), rank)


def tables(model):
    """Each embedding of tokens, as a matrix of what the first layer reads, with learned positions or None."""
    names = {
        "MarianMTModel": ("model.encoder", "model.decoder"),
        "BartForConditionalGeneration": ("model.encoder", "model.decoder"),
        "T5ForConditionalGeneration": ("encoder", "decoder"),
        "GPT2LMHeadModel": ("transformer",),
    }.get(type(model).__name__, ("model",))
    for name in names:
        side = model.get_submodule(name)
        tokens = side.wte if name == "transformer" else side.embed_tokens
        positions = (
            getattr(side, "wpe", None) if name == "transformer" else getattr(side, "embed_positions", None)
        )
        scale = math.sqrt(tokens.weight.shape[1]) if getattr(model.config, "scale_embedding", False) else 1
        learned = positions is not None and type(model).__name__ != "MarianMTModel"
        yield scale * tokens.weight.detach().double(), positions.weight.detach().double() if learned else None


def nearest(matrix, rank):
    """By singular values: the matrix of this rank that is nearest."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layer_reads_the_nearest_embeddings(kind):
    """In the scale that the model gives them: the inputs have the inner products of the nearest matrix."""
    teacher = teacher_of(kind)
    student = projected_student(teacher, architecture_of(kind), seed=0)
    for (before, positions), (after, narrow) in zip(tables(teacher), tables(student), strict=True):
        best = nearest(before, NARROW)
        assert torch.linalg.matrix_norm(before - best) > 0.3 * torch.linalg.matrix_norm(before)
        torch.testing.assert_close(after @ after.T, best @ best.T, atol=1e-4, rtol=1e-4)
        if positions is not None:  # turned as the tokens are: what they add up to keeps its inner products
            space = torch.linalg.svd(best).Vh[:NARROW]
            torch.testing.assert_close(
                after @ narrow.T, before @ space.T @ space @ positions.T, atol=1e-4, rtol=1e-4
            )
    assert logits(student).isfinite().all()


@pytest.mark.parametrize("kind", ["llama", "t5-gated-untied", "marian-two-tables"])
def test_an_output_of_its_own_keeps_the_spread_of_the_logits(kind):
    teacher = teacher_of(kind)
    student = projected_student(teacher, architecture_of(kind), seed=0)
    before, after = (model.lm_head.weight.detach().double() for model in (teacher, student))
    if kind == "marian-two-tables":  # tied to the decoder's embedding
        assert student.lm_head.weight is student.model.decoder.embed_tokens.weight
    best = nearest(before, NARROW)
    ratio = WIDTH / NARROW
    torch.testing.assert_close(after @ after.T, ratio * best @ best.T, atol=1e-4, rtol=1e-4)
    # Hidden states of root mean square 1, in every direction alike: the mean square of their logits.
    spread = [(matrix**2).sum() for matrix in (best, after)]
    assert spread[1].item() == pytest.approx(ratio * spread[0].item(), rel=1e-4)


def test_one_rotation_spreads_what_the_first_singular_value_carries():
    teacher = teacher_of("marian")
    with torch.no_grad():
        teacher.model.shared.weight.add_(1.0)  # a mean that all tokens share
    energy = (projected_student(teacher, architecture_of("marian"), seed=0).lm_head.weight ** 2).sum(0)
    singular = torch.linalg.svdvals(teacher.model.shared.weight)[:NARROW] ** 2
    assert (singular.max() / singular.sum()).item() > 0.8
    assert (energy.max() / energy.sum()).item() < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_fresh_and_the_bias_is_copied(kind):
    teacher = teacher_of(kind)
    student = projected_student(teacher, architecture_of(kind), seed=4)
    fresh = fresh_student(teacher, architecture_of(kind), seed=4).state_dict()
    theirs = {tensor.untyped_storage().data_ptr() for tensor in (*teacher.parameters(), *teacher.buffers())}
    for name, tensor in student.state_dict().items():
        made = ("tokens", "shared", "wte", "wpe", "lm_head", "final_logits_bias")
        made += ("embed_positions",) if kind == "bart" else ()
        assert torch.equal(tensor, fresh[name]) == (not any(part in name for part in made)), name
        assert tensor.untyped_storage().data_ptr() not in theirs
    if hasattr(teacher, "final_logits_bias"):
        assert torch.equal(student.final_logits_bias, teacher.final_logits_bias)
    assert student.generation_config.max_length == 17


def test_weights_depend_on_the_seed_alone():
    teacher = teacher_of("marian")
    torch.manual_seed(9)
    state = torch.get_rng_state()
    one, two, other = (projected_student(teacher, architecture_of("marian"), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.lm_head.weight, two.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    products = [model.lm_head.weight @ model.lm_head.weight.T for model in (one, other)]
    torch.testing.assert_close(*products, atol=1e-4, rtol=1e-4)


def test_the_teachers_own_width_loses_nothing():
    teacher = teacher_of("gpt2")
    student = projected_student(teacher, architecture_of("gpt2", WIDTH), seed=0)
    before, after = (model.lm_head.weight.detach() for model in (teacher, student))
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-4, rtol=1e-4)


def test_wider_is_refused():
    with pytest.raises(
        ValueError, match=r"^architecture: got d_model=32, expected at most 24, the teacher's width"
    ):
        projected_student(teacher_of("marian"), architecture_of("marian", 32), seed=0)
