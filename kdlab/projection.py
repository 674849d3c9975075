"""A narrower student whose embeddings are the teacher's, at the best rank that fits its width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.families import family_of
from kdlab.student_init import build, resized_config
from kdlab.students import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def best_projection(matrix: Tensor, rank: int) -> Tensor:
    """The orthonormal columns P for which `matrix @ P @ P.T` is nearest to `matrix` in the Frobenius norm.

    They are the first right singular vectors, and what is lost is the sum of the squares of the other singular values
    (Eckart and Young 1936). They are taken from the eigenvectors of matrix.T @ matrix, in float64. The matrix is not
    centred: a projection of centred rows would need a bias to give them back.

    Args:
        matrix: [rows, columns].
        rank: 1 to columns.

    Returns:
        [columns, rank], float64. The sign of each column makes its largest entry positive.

    >>> best_projection(torch.tensor([[3.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), 1)
    tensor([[1.],
            [0.]], dtype=torch.float64)
    """
    columns = matrix.shape[-1]
    if not 1 <= rank <= columns:
        raise ValueError(f"rank: got {rank}, expected 1 to {columns}, the columns of the matrix")
    wide = matrix.detach().double()
    best: Tensor = torch.linalg.eigh(wide.T @ wide).eigenvectors.flip(-1)[:, :rank]  # eigenvalues rise
    largest = best.gather(0, best.abs().argmax(0, keepdim=True))
    return best * largest.sign()


def projected_student(teacher: PreTrainedModel, architecture: Architecture, seed: int) -> PreTrainedModel:
    """A narrower student with the teacher's embeddings projected to its width; its layers are fresh.

    Projected are the embeddings of tokens, positions where they are learned (with the projection of the tokens that
    they are added to), and the output matrix: with the embedding that it is tied to, or by itself. The bias of the
    output is copied. All else is fresh: the layers, the norms and what T5 knows of relative positions; sinusoidal and
    rotary positions follow from the width.

    Each matrix is multiplied by its `best_projection` and a random rotation, one for all. A rotation loses nothing,
    since fresh layers prefer no basis; without it the first coordinate would carry the largest singular value alone,
    and 8-bit weights, whose step is set by the largest entry of a row, would be coarser.

    The scale of the embeddings is corrected so that the first layer reads what it would read from the projected
    teacher: Marian multiplies an embedding by sqrt(width) (`scale_embedding`), so there the projected one is multiplied
    by sqrt(teacher's width / student's). An output matrix that is not tied is multiplied by the same factor for another
    reason: normalised hidden states are sqrt(width) long, so that logits keep their spread. In Marian one matrix does
    both; where a tied embedding is not scaled on its way in (BART, GPT-2, a tied Llama) the input's scale is kept, and
    the first logits are smaller by the root of the widths. T5 divides by the width on its way out, and needs neither.

    Args:
        teacher: of a kind in `kdlab.families.FAMILIES`. It is not changed.
        architecture: the student's size; `d_model` at most the teacher's width.
        seed: of the fresh weights and the rotation. torch's global random state is left as it was.

    Raises:
        ValueError as in `fresh_student`, and for a student that is wider than the teacher.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import marian_config
    >>> teacher = MarianMTModel(marian_config(Architecture(32, 2, 2, 64), 100))
    >>> student = projected_student(teacher, Architecture(16, 1, 1, 32), seed=0)
    >>> table, projected = teacher.model.shared.weight, student.model.shared.weight
    >>> energy = torch.linalg.svdvals(table)[:16].square().sum() * (32 / 16)  # of the largest 16; Marian's scale
    >>> projected.shape, round((projected.square().sum() / energy).item(), 4)
    (torch.Size([100, 16]), 1.0)
    """
    family = family_of(teacher)
    width, narrow = getattr(teacher.config, family.width), architecture.d_model
    if narrow > width:
        raise ValueError(f"architecture: got d_model={narrow}, expected at most {width}, the teacher's width")
    student = build(teacher, resized_config(teacher, architecture), seed)
    rotation = _rotation(narrow, seed)
    scale = _input_scale(teacher.config) / _input_scale(student.config)
    tables = set()
    for tokens, positions in family.tables:
        table = teacher.get_parameter(f"{tokens}.weight")
        tables.add(id(table))
        basis = best_projection(table.cpu(), narrow) @ rotation
        _project(teacher, student, tokens, basis, scale)
        if positions is not None:
            _project(teacher, student, positions, basis)
    output = teacher.get_parameter("lm_head.weight")
    if id(output) not in tables:
        scale = _output_scale(teacher.config) / _output_scale(student.config)
        _project(teacher, student, "lm_head", best_projection(output.cpu(), narrow) @ rotation, scale)
    for name, bias in teacher.named_buffers():
        if name == "final_logits_bias":
            student.get_buffer(name).copy_(bias)
    return student


def _project(teacher: Any, student: Any, module: str, basis: Tensor, scale: float = 1.0) -> None:
    """Fill a module's matrix of the student with the teacher's, times `basis` and `scale`."""
    whole = teacher.get_parameter(f"{module}.weight").detach().cpu().double()
    with torch.no_grad():
        student.get_parameter(f"{module}.weight").copy_(scale * (whole @ basis))


def _rotation(width: int, seed: int) -> Tensor:
    """An orthogonal matrix, uniform over all of them (Haar): of a Gaussian matrix's QR, with R's diagonal positive."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(width, width, generator=generator, dtype=torch.float64)
    qr = torch.linalg.qr(gaussian)
    rotation: Tensor = qr.Q * qr.R.diagonal().sign()
    return rotation


def _input_scale(config: Any) -> float:
    """What the model multiplies an embedding of a token by."""
    return math.sqrt(config.hidden_size) if getattr(config, "scale_embedding", False) else 1.0


def _output_scale(config: Any) -> float:
    """The usual length of the vectors that meet the output matrix; T5 divides them by it."""
    return 1.0 if getattr(config, "scale_decoder_outputs", False) else math.sqrt(config.hidden_size)
