"""The losses from hidden states: half precision, autocast, loss scales, and what backward may be asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdlab import fused_linear_distillation_loss

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
DEVICES = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)


def draw(dtype: torch.dtype, device: str = "cpu", tokens: int = 400) -> list[Tensor]:
    """Hidden states and weight of a student and a teacher over 30 words."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((tokens, 16), (30, 16), (tokens, 24), (30, 24))
    tensors = [torch.randn(*s, generator=generator).to(device, dtype) for s in shapes]
    return [tensors[0].requires_grad_(), tensors[1].requires_grad_(), *tensors[2:]]


def forward_kl(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients in float64 of what the tensors hold."""
    hidden, weight, teacher, its_weight = (x.detach().double() for x in tensors)
    leaves = [hidden.requires_grad_(), weight.requires_grad_()]
    log_p, log_q = (teacher @ its_weight.T).log_softmax(-1), (hidden @ weight.T).log_softmax(-1)
    loss = functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return loss.detach(), list(torch.autograd.grad(loss, leaves))


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@DEVICES
@HALVES
@pytest.mark.parametrize("chunk_tokens", [1, 64])
def test_half_precision_is_added_up_in_float32(dtype, device, chunk_tokens) -> None:
    """The value as good as float32's, the gradients one rounding away, in however many chunks they are added up."""
    tensors = draw(dtype, device)
    loss = fused_linear_distillation_loss(*tensors, chunk_tokens=chunk_tokens)
    value, wanted = forward_kl(tensors)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), value, rtol=1e-5, atol=0.0)
    roundings = 1 if device == "cpu" else 2
    for found, slope in zip(torch.autograd.grad(loss, tensors[:2]), wanted, strict=True):
        assert found.dtype == dtype
        assert relative(found, slope) < roundings * torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_a_loss_scale_lifts_what_fp16_would_flush(reduction) -> None:
    """In an accumulated batch of a million tokens the gradients are too small for fp16 until they are scaled."""
    tensors, tokens, items, scale = draw(torch.float16), 400, 10**6, 2.0**14
    _, wanted = forward_kl(tensors)
    options = {"num_items_in_batch": items} if reduction == "token_mean" else {}
    loss = fused_linear_distillation_loss(*tensors, reduction=reduction, **options)
    upstream = torch.full_like(loss, scale if reduction == "token_mean" else scale / items)
    found = torch.autograd.grad(loss, tensors[0], upstream)[0]
    unscaled = tokens / items * wanted[0]
    assert relative(unscaled.half(), unscaled) > 1e-3
    assert relative(found.double() / scale, unscaled) < torch.finfo(torch.float16).eps / 2


def test_grad_scaler_steps_and_overflows() -> None:
    """A scaled loss gives the same step; a scale that is too large shows as inf, and the step is skipped."""
    for scale, steps in ((2.0**10, True), (2.0**40, False)):
        hidden, weight, *teacher = draw(torch.float16)
        master = weight.detach().float().requires_grad_()
        optimizer = torch.optim.SGD([master], lr=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        loss = fused_linear_distillation_loss(hidden, master.half(), *teacher)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        moved = weight.detach().float() - master.detach()
        if steps:
            assert relative(moved, forward_kl([hidden, weight, *teacher])[1][1]) < 1e-3
        else:
            assert (moved == 0).all()


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_autocast_changes_nothing(reduction) -> None:
    tensors = draw(torch.float32, tokens=40)
    expected = fused_linear_distillation_loss(*tensors, reduction=reduction)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_linear_distillation_loss(*tensors, reduction=reduction)
        slopes = torch.autograd.grad(found.sum(), tensors[:2])
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for slope, wanted in zip(slopes, torch.autograd.grad(expected.sum(), tensors[:2]), strict=True):
        assert slope.dtype == torch.float32
        assert torch.equal(slope, wanted)


def test_the_types_may_differ() -> None:
    """Under autocast hidden states come in bf16 and weights in float32; a teacher may be in bf16 or float64."""
    hidden, weight, *_ = draw(torch.float32)
    for teacher_type in (torch.bfloat16, torch.float64):
        tensors = [
            hidden.detach().bfloat16().requires_grad_(),
            weight,
            *(x.to(teacher_type) for x in draw(torch.float32)[2:]),
        ]
        loss = fused_linear_distillation_loss(*tensors)
        value, wanted = forward_kl(tensors)
        torch.testing.assert_close(loss.double(), value, rtol=1e-5, atol=0.0)
        slopes = torch.autograd.grad(loss, tensors[:2])
        assert [slope.dtype for slope in slopes] == [torch.bfloat16, torch.float32]
        assert relative(slopes[0], wanted[0]) < 2**-9
        assert relative(slopes[1], wanted[1]) < 1e-5


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_backward_may_be_called_again(reduction, upstream) -> None:
    tensors = draw(torch.float32, tokens=40)
    loss = upstream * fused_linear_distillation_loss(*tensors, reduction=reduction).sum()
    wanted = [3 * upstream * slope for slope in forward_kl(tensors)[1]]
    for _ in range(3):
        loss.backward(retain_graph=True)
    for tensor, slope in zip(tensors, wanted, strict=False):
        assert relative(tensor.grad, slope * (40 if reduction == "none" else 1)) < 1e-5


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_a_loss_that_weighs_nothing_sends_nothing_back(reduction) -> None:
    """Even where its gradient is infinite: reverse KL, and the teacher rules a word out."""
    hidden, weight, teacher, its_weight = draw(torch.float32, tokens=4)
    bias = torch.zeros(30).index_fill(0, torch.tensor(3), -torch.inf)
    loss = fused_linear_distillation_loss(
        hidden, weight, teacher, its_weight, teacher_bias=bias, divergence="reverse_kl", reduction=reduction
    )
    assert (loss == torch.inf).all()
    slopes = torch.autograd.grad(loss, [hidden, weight], torch.zeros_like(loss))
    assert all((slope == 0).all() for slope in slopes)
