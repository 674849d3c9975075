"""A student made from a teacher: of the same kind, with fresh weights or with some of the teacher's layers.

A third way, with the teacher's embeddings at a narrower width, is `kdlab.projection.projected_student`. Supported are
the kinds in `kdlab.families.FAMILIES`. Every student is in float32 on the CPU, shares no memory with the teacher, has
a copy of its generation configuration and ties the same matrices.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kdlab.families import Family, family_of
from kdlab.students import Architecture, seeded

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def fresh_student(teacher: PreTrainedModel, architecture: Architecture, seed: int) -> PreTrainedModel:
    """A student of another size with fresh weights; all but the size is as in the teacher's configuration.

    Args:
        teacher: of a kind in `kdlab.families.FAMILIES`. It is not changed.
        architecture: the student's size; 0 encoder layers where the teacher has no encoder. `dropout` goes to the
            dropout that the kind has: in Llama and Qwen2 that of the attention.
        seed: of the weights, which depend on nothing else. torch's global random state is left as it was.

    Raises:
        ValueError for a kind that is not supported, and for a size that does not fit it.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import marian_config
    >>> teacher = MarianMTModel(marian_config(Architecture(32, 2, 2, 64), 100))
    >>> fresh_student(teacher, Architecture(16, 2, 1, 32), seed=0).model.shared.weight.shape
    torch.Size([100, 16])
    """
    return build(teacher, resized_config(teacher, architecture), seed)


def copied_student(
    teacher: PreTrainedModel,
    *,
    encoder_layers: int | Sequence[int] | None = None,
    decoder_layers: int | Sequence[int] | None = None,
    dropout: float | None = None,
) -> PreTrainedModel:
    """A shallower student that starts with some of the teacher's layers and all that is outside the layers.

    To start from every other layer is DistilBERT's way (Sanh et al. 2019); that the decoder can lose more layers than
    the encoder is what DistilBART found (Shleifer and Rush 2020, "Pre-trained Summarization Distillation").

    Args:
        teacher: of a kind in `kdlab.families.FAMILIES`. It is not changed.
        encoder_layers, decoder_layers: the teacher's layers to keep, as increasing indices from 0; or how many, and
            they are spread evenly with the first and the last among them (`spread`); None keeps all.
        dropout: the student's; None leaves it as in the teacher.

    Raises:
        ValueError for a kind that is not supported, layers that the teacher does not have or has in another order, a
        dropout outside [0, 1), and a GPT-2 whose attention depends on the number of the layer.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import marian_config
    >>> teacher = MarianMTModel(marian_config(Architecture(16, 6, 6, 32), 100))
    >>> student = copied_student(teacher, encoder_layers=3, decoder_layers=[0])
    >>> len(student.model.encoder.layers), len(student.model.decoder.layers)
    (3, 1)
    """
    family = family_of(teacher)
    chosen = {
        side: _choose(f"{side}_layers", layers, len(family.layers(teacher, side)))
        for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers))
    }
    _check_numbered_layers(teacher, chosen["decoder"])
    config = _own_config(teacher)
    _set_layers(config, family, chosen)
    if dropout is not None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: got {dropout}, expected 0 to 1 (excluded)")
        _set(config, family.dropout, dropout)
    student = build(teacher, config, seed=0)
    weights = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        tensor.copy_(weights[_origin(family, name, chosen)])
    return student


def spread(layers: int, total: int) -> list[int]:
    """`layers` indices from 0 to `total` - 1, evenly apart with the first and the last among them; one is the first.

    Of 12 layers 6 are those that DistilBERT keeps.

    >>> spread(6, 12), spread(3, 12), spread(1, 12)
    ([0, 2, 4, 7, 9, 11], [0, 6, 11], [0])
    """
    if layers == 1:
        return [0]
    gaps = layers - 1
    return [(2 * number * (total - 1) + gaps) // (2 * gaps) for number in range(layers)]  # rounded, halves up


def resized_config(teacher: PreTrainedModel, architecture: Architecture) -> PreTrainedConfig:
    """The teacher's configuration with another size; nothing is shared with it.

    Raises: ValueError as in `fresh_student`.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import marian_config
    >>> teacher = MarianMTModel(marian_config(Architecture(32, 2, 2, 64), 100))
    >>> resized_config(teacher, Architecture(16, 2, 1, 32)).decoder_ffn_dim
    32
    """
    family = family_of(teacher)
    if (family.encoder is None) != (architecture.encoder_layers == 0):
        expected = "0: it has no encoder" if family.encoder is None else "at least 1"
        raise ValueError(
            f"architecture: got encoder_layers={architecture.encoder_layers} for a {type(teacher).__name__}, "
            f"expected {expected}"
        )
    config = _own_config(teacher)
    head_size = architecture.d_model // architecture.heads
    _check_rotary(config, head_size)
    _set_key_value_heads(config, architecture.heads)
    for names, value in (
        ((family.width,), architecture.d_model),
        (family.ffn, architecture.ffn),
        (family.heads, architecture.heads),
        (family.head_size, head_size),
        (family.dropout, architecture.dropout),
    ):
        _set(config, names, value)
    counts = {"encoder": architecture.encoder_layers, "decoder": architecture.decoder_layers}
    chosen = {}
    for side, count in counts.items():
        total = len(family.layers(teacher, side))
        chosen[side] = spread(count, total) if count <= total else list(range(count))
    _set_layers(config, family, chosen)
    return config


def build(teacher: PreTrainedModel, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A fresh model of the teacher's kind that ties what the teacher ties, with its generation configuration.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import marian_config
    >>> teacher = MarianMTModel(marian_config(Architecture(16, 1, 1, 32), 100))
    >>> student = build(teacher, teacher.config, seed=0)
    >>> student.lm_head.weight is student.model.shared.weight, student.lm_head.weight is teacher.lm_head.weight
    (True, False)
    """
    with seeded(seed):
        student = type(teacher)(config)
    _tie_alike(student, teacher, family_of(teacher))
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student


def _own_config(teacher: PreTrainedModel) -> PreTrainedConfig:
    config: PreTrainedConfig = copy.deepcopy(teacher.config)
    config.dtype = torch.float32
    config.name_or_path = ""  # the teacher's folder is not the student's
    return config


def _set(config: Any, names: Sequence[str], value: Any) -> None:
    for name in names:
        setattr(config, name, value)


def _set_layers(config: Any, family: Family, chosen: dict[str, list[int]]) -> None:
    """Write down how many layers are chosen and, in models that tell layers apart, of which type each one is."""
    if family.encoder_layers is not None:
        setattr(config, family.encoder_layers, len(chosen["encoder"]))
    setattr(config, family.decoder_layers, len(chosen["decoder"]))
    types = getattr(config, "layer_types", None)
    if types is not None:
        deepest = max(chosen["decoder"])
        if deepest >= len(types) and len(set(types)) > 1:
            raise ValueError(
                f"architecture: got {deepest + 1} layers, expected at most the teacher's {len(types)}, which are of "
                f"more than one type: {', '.join(sorted(set(types)))}"
            )
        config.layer_types = [types[min(number, len(types) - 1)] for number in chosen["decoder"]]


def _set_key_value_heads(config: Any, heads: int) -> None:
    """As many queries to a key as in the teacher, where heads share their keys (grouped-query attention)."""
    shared = getattr(config, "num_key_value_heads", None)
    if shared is None:
        return
    queries = config.num_attention_heads // shared
    if heads % queries:
        raise ValueError(
            f"architecture: got heads={heads}, expected a multiple of {queries}, the teacher's queries to a key"
        )
    config.num_key_value_heads = heads // queries


def _check_rotary(config: Any, head_size: int) -> None:
    rotary = getattr(config, "rope_parameters", None)
    if rotary is None:
        return
    if head_size % 2:
        raise ValueError(
            f"architecture: got {head_size} dimensions to a head, expected an even number for rotary positions"
        )
    before = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if rotary.get("rope_type") == "longrope" and head_size != before:
        raise ValueError(
            f"architecture: got {head_size} dimensions to a head, expected the teacher's {before}, for which the "
            "factors of its rotary positions are made"
        )


def _check_numbered_layers(teacher: Any, chosen: list[int]) -> None:
    if getattr(teacher.config, "scale_attn_by_inverse_layer_idx", False) and chosen != list(
        range(len(chosen))
    ):
        raise ValueError(
            f"decoder_layers: got {chosen}, expected the first ones, such as [0, 1]: with "
            "scale_attn_by_inverse_layer_idx a layer works at its own number only"
        )


def _choose(name: str, layers: int | Sequence[int] | None, total: int) -> list[int]:
    if total == 0 and layers not in (None, 0):
        raise ValueError(f"{name}: got {layers!r}, expected None: the teacher has none")
    if layers is None or total == 0:
        return list(range(total))
    if isinstance(layers, int) and not isinstance(layers, bool):
        if not 1 <= layers <= total:
            raise ValueError(f"{name}: got {layers}, expected 1 to {total}, which the teacher has")
        return spread(layers, total)
    chosen = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    if not chosen or chosen != [number for number in range(total) if number in chosen]:
        raise ValueError(
            f"{name}: got {layers!r}, expected a number of layers or increasing indices from 0 to {total - 1}"
        )
    return chosen


def _origin(family: Family, name: str, chosen: dict[str, list[int]]) -> str:
    """Where in the teacher the student's parameter comes from."""
    place = family.split(name)
    if place is None:
        return name
    side, number, rest = place
    path = family.encoder if side == "encoder" else family.decoder
    return f"{path}.{chosen[side][number]}.{rest}"


def _tie_alike(student: Any, teacher: Any, family: Family) -> None:
    """Tie what the teacher ties, and only that: a checkpoint may hold apart what its configuration calls tied.

    An output matrix that is cut loose here starts as the embedding with its rows in reverse order: transformers would
    tie two equal ones again when it loads them.
    """
    owners: dict[int, nn.Parameter] = {}
    for name in [table for table, _ in family.tables] + ["lm_head"]:
        module, matrix = student.get_submodule(name), id(teacher.get_submodule(name).weight)
        if matrix not in owners:
            apart = all(module.weight is not owner for owner in owners.values())
            owners[matrix] = module.weight if apart else nn.Parameter(module.weight.detach().flip(0))
        module.weight = owners[matrix]
