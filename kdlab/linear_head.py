"""The last layer of a model, where it is linear: what the fused losses need of student and teacher.

logits = soft_cap(scale * (hidden @ weight.T + bias)). Whether a model works so is not read off its class: it is tried
once, with hidden states so large that a scale or a cap that is not known of cannot hide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdlab.heads import Head
from kdlab.model_io import Batch, aligned, model_inputs

# Names in transformers' configurations: Cohere and others multiply the logits, Falcon-H1 too, Granite divides them.
SCALES: dict[str, Callable[[float], float]] = {
    "logit_scale": lambda value: value,
    "lm_head_multiplier": lambda value: value,
    "logits_scaling": lambda value: 1 / value,
}
SOFT_CAPS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
)  # Gemma, RecurrentGemma, xLSTM
PEAK = 100.0  # of the trial's logits; caps in use are 15 to 50


@dataclass(frozen=True)
class HiddenLogits:
    """Logits [batch, targets, vocabulary] that have not been multiplied out."""

    hidden: Tensor  # [batch, targets, hidden], beside `target_labels(batch)`
    weight: Tensor  # [vocabulary, hidden]
    bias: Tensor | None  # [vocabulary]
    scale: float
    soft_cap: float | None


@dataclass(frozen=True)
class LinearHead:
    """How a model's logits come from its last hidden states. Made by `of`, which tries it out.

    Attributes:
        scale: the logits are multiplied by it.
        soft_cap: they become cap * tanh(logits / cap) after that; None: they don't.
        vocabulary: how many there are.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20)).eval()
    >>> LinearHead.of(model)
    LinearHead(scale=1.0, soft_cap=None, vocabulary=20)
    >>> ids = torch.tensor([[5, 1]])
    >>> batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids, "labels": ids}
    >>> LinearHead.of(model).hidden_logits(model, batch).hidden.shape
    torch.Size([1, 2, 8])
    """

    scale: float
    soft_cap: float | None
    vocabulary: int

    @classmethod
    def of(cls, model: nn.Module) -> LinearHead:
        """Of a transformers model, in the mode (train or eval) that it is in.

        Raises:
            ValueError: logits of this model cannot be had from hidden states alone, and why.
        """
        from transformers import PreTrainedModel

        if not isinstance(model, PreTrainedModel):
            raise ValueError(f"model: got a {type(model).__name__}, expected a transformers PreTrainedModel")
        layer, backbone = model.get_output_embeddings(), model.base_model
        if type(layer) is not nn.Linear:
            raise ValueError(
                f"model: got a {type(model).__name__} whose output layer is a {type(layer).__name__}, "
                "expected nn.Linear"
            )
        if backbone is model:
            raise ValueError(f"model: got a {type(model).__name__}, whose body is no module of its own")
        if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
            raise ValueError("model: got one that is spread over several devices, expected a single one")
        head = cls(*_scale_and_cap(model), layer.weight.shape[0])
        head._try(model)
        return head

    def hidden_logits(self, model: Any, batch: Batch) -> HiddenLogits:
        """Run `model` up to its last layer.

        Under autocast hidden states and weight are cast as autocast would for that layer; the gradients go back
        through the casts.
        """
        rows = model.base_model(**model_inputs(model, batch)).last_hidden_state
        return self._hidden_logits(model, aligned(rows, batch)[0])

    def _hidden_logits(self, model: Any, hidden: Tensor) -> HiddenLogits:
        weight = model.get_output_embeddings().weight
        return HiddenLogits(
            _as_autocast_would(hidden), _as_autocast_would(weight), _bias(model), self.scale, self.soft_cap
        )

    @torch.no_grad()
    def _try(self, model: Any) -> None:
        """Compare with what the model says about a few tokens. Random numbers and the model's mode stay as they are."""
        seen: dict[str, Tensor] = {}
        layer = model.get_output_embeddings()

        def after_backbone(module: nn.Module, inputs: Any, output: Any) -> None:
            seen["last"] = output.last_hidden_state

        def before_layer(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            seen["input"] = inputs[0]
            peak = functional.linear(inputs[0], layer.weight).abs().max()
            seen["enlarged"] = inputs[0] * (PEAK / peak)
            return (seen["enlarged"],)

        hooks = (
            model.base_model.register_forward_hook(after_backbone),
            layer.register_forward_pre_hook(before_layer),
        )
        try:
            with _random_state_kept(layer.weight.device):
                logits = model(**model_inputs(model, _trial_batch(model))).logits
        except Exception as error:  # whatever it is, the model still trains from its logits
            raise ValueError(f"model: a trial of a {type(model).__name__} failed: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()
        if "last" not in seen or "input" not in seen or not torch.equal(seen["last"], seen["input"]):
            raise ValueError(
                f"model: got a {type(model).__name__} whose last hidden states are not what its output layer reads"
            )
        expected = multiply(self._hidden_logits(model, seen["enlarged"]))
        distance = (logits.to(expected) - expected).abs().max()
        if not distance <= _tolerance(logits, expected):  # NaN, where the weight is all 0, is refused too
            raise ValueError(
                f"model: got a {type(model).__name__} whose logits are not soft_cap(scale * (hidden @ weight.T + "
                f"bias)) with scale {self.scale} and soft_cap {self.soft_cap}, or whose output layer is all 0"
            )


def call_as_forward(wrapper: nn.Module, model: nn.Module, function: Callable[[], Tensor]) -> Tensor:
    """What `function` gives, called in the place of `model`'s own forward through whatever is wrapped around it.

    DistributedDataParallel prepares its sums of gradients when it is called, and looks at the output for the
    parameters that took part: a loss that is worked out beside it would leave each process with its own gradients.

    >>> model = nn.Linear(2, 2)
    >>> call_as_forward(model, model, lambda: torch.tensor(7.0)), model(torch.zeros(1, 2)).shape
    (tensor(7.), torch.Size([1, 2]))
    """
    own = vars(model).get("forward")  # accelerate puts one there for mixed precision
    model.forward = function
    try:
        loss: Tensor = wrapper()
    finally:
        del model.forward
        if own is not None:
            model.forward = own
    return loss


def _scale_and_cap(model: Any) -> tuple[float, float | None]:
    """Those that the configuration names."""
    config = model.config.get_text_config()
    # A name may mean something else in another family; the trial shows.
    values = {name: getattr(config, name, None) for name in (*SCALES, *SOFT_CAPS)}
    given = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and 0 < value < math.inf
    }
    scale = math.prod((of(given[name]) for name, of in SCALES.items() if name in given), start=1.0)
    return scale, next((given[name] for name in SOFT_CAPS if name in given), None)


def _bias(model: Any) -> Tensor | None:
    """The layer's own, and Marian's and BART's `final_logits_bias` [1, vocabulary]."""
    parts = (model.get_output_embeddings().bias, getattr(model, "final_logits_bias", None))
    given = [part.reshape(-1) for part in parts if part is not None]
    return sum(given[1:], given[0]) if given else None


def _as_autocast_would(tensor: Tensor) -> Tensor:
    device = tensor.device.type
    if not torch.is_autocast_enabled(device) or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _trial_batch(model: Any) -> dict[str, Tensor]:
    layer = model.get_output_embeddings()
    ids = torch.arange(1, 5, device=layer.weight.device).unsqueeze(0) % layer.weight.shape[0]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {**batch, "decoder_input_ids": ids} if model.config.is_encoder_decoder else batch


def multiply(of: HiddenLogits) -> Tensor:
    """The logits, [..., vocabulary], float32 at least.

    >>> multiply(HiddenLogits(torch.tensor([[[1.0, 2.0]]]), torch.eye(2), None, scale=2.0, soft_cap=None))
    tensor([[[2., 4.]]])
    """
    vocabulary = of.weight.shape[0]
    head = Head.of(of.hidden, of.weight, of.bias, of.scale, of.soft_cap, vocabulary)
    return head.logits(slice(None)).view(*of.hidden.shape[:-1], vocabulary)


def _tolerance(logits: Tensor, expected: Tensor) -> float:
    """Room for bf16, which a model rounds its logits to, and for matrix products in TF32."""
    return max(5e-3, 4 * torch.finfo(logits.dtype).eps) * expected.abs().max().item()


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
