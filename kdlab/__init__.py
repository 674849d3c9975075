"""kdlab: knowledge distillation of language models.

The core (distributions, divergences, losses) needs torch alone. What needs the extra `train` is imported when it
is first asked for, so that `import kdlab` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kdlab.losses import (
    DistillationLoss,
    alpha_divergence,
    chi_square,
    distillation_loss,
    forward_kl,
    generalized_jsd,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    squared_hellinger,
    total_variation,
)

if TYPE_CHECKING:
    from kdlab.diagnostics import diagnose
    from kdlab.distiller import Distiller
    from kdlab.fused import FusedLinearDistillationLoss, fused_linear_distillation_loss

__version__ = "0.1.0"

__all__ = [
    "DistillationLoss",
    "Distiller",
    "FusedLinearDistillationLoss",
    "alpha_divergence",
    "chi_square",
    "diagnose",
    "distillation_loss",
    "forward_kl",
    "fused_linear_distillation_loss",
    "generalized_jsd",
    "reverse_kl",
    "skew_forward_kl",
    "skew_reverse_kl",
    "squared_hellinger",
    "total_variation",
]

_LAZY = {
    "Distiller": "kdlab.distiller",
    "diagnose": "kdlab.diagnostics",
    "FusedLinearDistillationLoss": "kdlab.fused",
    "fused_linear_distillation_loss": "kdlab.fused",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'kdlab' has no attribute {name!r}")
