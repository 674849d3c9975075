"""Models from a folder or the hub: the one place that knows which of transformers' classes loads what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

Kind = Literal["encoder-decoder", "decoder-only"]


def load_model(name: str, device: torch.device) -> PreTrainedModel:
    """An encoder-decoder or decoder-only model from a folder or the hub, in eval mode.

    Raises:
        ValueError: nothing that loads is there.

    >>> import tempfile
    >>> import torch
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, kinds = train_tokenizer(["a b"], 300), []
    >>> for encoder_layers in (1, 0):
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         _ = new_model(Architecture(8, encoder_layers, 1, 8), tokenizer, seed=0).save_pretrained(folder)
    ...         model = load_model(folder, torch.device("cpu"))
    ...     kinds.append((type(model).__name__, model.training))
    >>> kinds
    [('MarianMTModel', False), ('GPT2LMHeadModel', False)]
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader: Any = AutoModelForSeq2SeqLM if _config(name).is_encoder_decoder else AutoModelForCausalLM
    try:
        model = loader.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _nothing_loads(name, error) from error
    return model.to(device).eval()  # type: ignore[no-any-return]


def kind_of(name: str) -> Kind:
    """Whether the model in a folder or on the hub is encoder-decoder or decoder-only; its weights are not read.

    Raises: ValueError as in `load_model`.

    >>> import tempfile
    >>> from kdlab.students import Architecture, gpt2_config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gpt2_config(Architecture(8, 0, 1, 8), 100).save_pretrained(folder)
    ...     kind_of(folder)
    'decoder-only'
    """
    return "encoder-decoder" if _config(name).is_encoder_decoder else "decoder-only"


def _config(name: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _nothing_loads(name, error) from error
    return config


def _nothing_loads(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"model: nothing could be loaded from {name!r}, expected a folder written by save_pretrained or a name on the "
        f"hub, of an encoder-decoder or decoder-only model. transformers says: {error}"
    )
