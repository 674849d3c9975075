"""How good a model is: BLEU and chrF, gap closed, distance to the teacher, size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdlab.distributions import at_least_float32, sequence_log_probability
from kdlab.divergences import make_divergence
from kdlab.model_io import target_labels, target_logits
from kdlab.text.batches import Example, by_length
from kdlab.text.causal import collate_for, lengths_for
from kdlab.token_divergence import token_divergence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdlab.teachers import Teacher

EVALUATION_TOKENS = 4096  # padded tokens in a batch where nothing is trained


@dataclass(frozen=True)
class BleuStatistics:
    """n-gram matches of each sentence, of which corpus BLEU is a function of the sums.

    Keeping them makes a bootstrap cheap: a resample is a sum over rows.

    >>> counted = BleuStatistics.of(["the bus is red", "no"], ["the bus is red", "yes"])
    >>> counted.counts[:, :4].tolist()  # 4 words, 3 pairs, 2 triples, 1 of four
    [[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    >>> round(counted.bleu(np.array([1, 0]))), counted.bleu() < 100
    (100, True)
    """

    counts: NDArray[np.float64]  # [sentences, 10]: 4 matches, 4 totals, hypothesis length, reference length

    @classmethod
    def of(cls, hypotheses: Sequence[str], references: Sequence[str]) -> BleuStatistics:
        """Count with sacrebleu: 13a tokens, cased."""
        from sacrebleu.metrics.bleu import BLEU

        if len(hypotheses) != len(references):
            raise ValueError(
                f"hypotheses: got {len(hypotheses)}, expected {len(references)}, one for each reference"
            )
        metric = BLEU(effective_order=True)
        rows = []
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            score = metric.sentence_score(hypothesis, [reference])
            rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
        return cls(np.array(rows, dtype=np.float64))

    def bleu(self, weights: NDArray[np.int64] | None = None) -> float:
        """Corpus BLEU, each sentence counted `weights` times (once)."""
        from sacrebleu.metrics.bleu import BLEU

        total = self.counts.sum(0) if weights is None else weights @ self.counts
        whole = [int(value) for value in total]
        return float(BLEU.compute_bleu(whole[:4], whole[4:8], whole[8], whole[9], smooth_method="exp").score)


def resample_weights(sentences: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each sentence is drawn in each bootstrap resample, [resamples, sentences].

    >>> weights = resample_weights(sentences=5, resamples=3, seed=0)
    >>> weights.shape, weights.sum(1).tolist()
    ((3, 5), [5, 5, 5])
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(sentences, np.full(sentences, 1 / sentences), size=resamples)


def translation_quality(
    hypotheses: Sequence[str], references: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """BLEU and chrF of the corpus, a 95% bootstrap interval of BLEU, and sacrebleu's signatures.

    >>> quality = translation_quality(["the bus is red"] * 2, ["the bus is red"] * 2, resamples=10)
    >>> quality["bleu"], quality["bleu_interval"], quality["chrf"]
    (100.0, [100.0, 100.0], 100.0)
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu, chrf = BLEU(), CHRF()
    score = bleu.corpus_score(list(hypotheses), [list(references)]).score
    counted = BleuStatistics.of(hypotheses, references)
    draws = [counted.bleu(weights) for weights in resample_weights(len(references), resamples, seed)]
    return {
        "bleu": round(score, 2),
        "bleu_interval": _interval(draws, digits=2),
        "chrf": round(chrf.corpus_score(list(hypotheses), [list(references)]).score, 2),
        "signature": {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())},
    }


def gap_closed(
    distilled: Sequence[str],
    alone: Sequence[str],
    teacher: Sequence[str],
    references: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """(distilled - alone) / (teacher - alone) in BLEU, with a paired 95% bootstrap interval.

    The four are lists of sentences in one order. Every resample draws the same sentences for all three systems.
    `value` is None where the teacher is no better than the student alone: there is no gap to close.

    >>> references = ["the bus is very red", "the key is here now"]
    >>> alone, teacher = ["a car", "a day"], references
    >>> gap_closed(teacher, alone, teacher, references, resamples=10)["value"]  # as good as the teacher
    1.0
    >>> gap_closed(teacher, alone=teacher, teacher=alone, references=references, resamples=10)["value"] is None
    True
    """
    systems = [BleuStatistics.of(system, references) for system in (distilled, alone, teacher)]
    weights = resample_weights(len(references), resamples, seed)
    draws = [_share(*(system.bleu(row) for system in systems)) for row in weights]
    value = _share(*(system.bleu() for system in systems))
    known = [draw for draw in draws if draw is not None]
    return {
        "value": None if value is None else round(value, 3),
        "interval": _interval(known, digits=3) if len(known) > resamples / 2 else None,
        "resamples_without_a_gap": len(draws) - len(known),
    }


def gap_ends(*, weak_to_strong: bool) -> tuple[str, str]:
    """The systems between which a distilled student stands: from which its gap is counted, and to which.

    A student of a smaller teacher is to pass it, and has the references' student as its ceiling: with these ends the
    gap closed is the performance gap recovered of Burns et al. (2023).

    >>> gap_ends(weak_to_strong=False), gap_ends(weak_to_strong=True)
    (('baseline', 'teacher'), ('teacher', 'baseline'))
    """
    return ("teacher", "baseline") if weak_to_strong else ("baseline", "teacher")


@torch.no_grad()
def distance_to_teacher(
    student: PreTrainedModel, teacher: Teacher, examples: Sequence[Example]
) -> dict[str, float]:
    """Mean KL(teacher || student) in nats a token on reference prefixes, and how often their best tokens agree.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.teachers import LiveTeacher
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> distance = distance_to_teacher(model, LiveTeacher(model), [Example([5, 1], [7, 8, 1])])
    >>> {name: round(value, 4) for name, value in distance.items()}  # a student that is its teacher
    {'kl_to_teacher': 0.0, 'agreement': 1.0}
    """
    student.eval()
    forward_kl = make_divergence("forward_kl")
    divergence, agreed, tokens = 0.0, 0, 0
    for batch in evaluation_batches(student, examples):
        counted = target_labels(batch) != -100
        logits = model_logits(student, batch)[counted]
        target = teacher(batch)
        if not isinstance(target, torch.Tensor):
            raise ValueError(
                "teacher: got a top-k signal, expected whole distributions to measure a distance to"
            )
        target = target[counted]
        divergence += token_divergence(forward_kl, logits, target).sum().item()
        agreed += int(_same_best(logits, target).sum())
        tokens += int(counted.sum())
    return {"kl_to_teacher": divergence / tokens, "agreement": agreed / tokens}


def agreement(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = -100
) -> torch.Tensor:
    """The share of the tokens at which the student's most probable token is the teacher's, from 0 to 1.

    Args:
        student_logits, teacher_logits: [batch, length, vocabulary]; row i goes with label i.
        labels: integers [batch, length]; they only say which tokens count, those that are not `ignore_index`.
        ignore_index: the label of padding.

    Returns: one number, a tensor of shape []; NaN where no token counts.

    Raises:
        ValueError: shapes that do not fit.

    >>> teacher = torch.tensor([[[2.0, 1.0], [0.0, 3.0], [5.0, 0.0]]])
    >>> student = torch.tensor([[[1.0, 0.0], [4.0, 0.0], [0.0, 1.0]]])
    >>> agreement(student, teacher, torch.tensor([[0, 0, -100]]))  # the first agrees, the second does not
    tensor(0.5000)
    """
    if student_logits.shape != teacher_logits.shape or labels.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"student_logits: got shape {list(student_logits.shape)} beside teacher_logits "
            f"{list(teacher_logits.shape)} and labels {list(labels.shape)}, expected [batch, length, vocabulary] twice "
            "and then [batch, length]"
        )
    counted = labels != ignore_index
    return _same_best(student_logits, teacher_logits)[counted].float().mean()


@torch.no_grad()
def sequence_scores(model: PreTrainedModel, examples: Sequence[Example]) -> list[float]:
    """log Pr(target | source) of each example, in nats. To a decoder-only model the source is the prompt.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20)).eval()
    >>> _ = model.model.shared.weight.data.zero_()  # every token has probability 1/20
    >>> scores = sequence_scores(model, [Example([5, 1], [7, 1]), Example([5, 6, 1], [7, 8, 1])])
    >>> [round(float(-score / np.log(20)), 4) for score in scores]  # -log 20 for each of two and of three tokens
    [2.0, 3.0]
    """
    scores = [0.0] * len(examples)
    for indices, batch in zip(_order(model, examples), evaluation_batches(model, examples), strict=True):
        # Rows and labels are paired already, as an encoder-decoder model's are.
        values = sequence_log_probability(
            model_logits(model, batch), target_labels(batch), alignment="encoder_decoder"
        )
        for index, value in zip(indices, values.tolist(), strict=True):
            scores[index] = value
    return scores


def bytes_on_disk(folder: Path) -> int:
    """Bytes of the weights in a model folder, in the one format that would be loaded.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, size in (("model.safetensors", 4), ("pytorch_model.bin", 4), ("tokenizer.json", 9)):
    ...         _ = (Path(folder) / name).write_bytes(bytes(size))
    ...     bytes_on_disk(Path(folder))
    4
    """
    files = list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
    return sum(path.stat().st_size for path in files)


def evaluation_batches(model: PreTrainedModel, examples: Sequence[Example]) -> list[dict[str, torch.Tensor]]:
    """All examples once, long ones first, as the model reads them and on its device.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> (batch,) = evaluation_batches(model, [Example([5, 1], [7, 1]), Example([5, 6, 1], [8, 9, 1])])
    >>> batch["labels"]
    tensor([[   8,    9,    1],
            [   7,    1, -100]])
    """
    device = next(model.parameters()).device
    return [
        {
            name: tensor.to(device)
            for name, tensor in collate_for(model.config, [examples[index] for index in indices]).items()
        }
        for indices in _order(model, examples)
    ]


def model_logits(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """[batch, targets, vocabulary] in float32, beside `kdlab.model_io.target_labels(batch)`.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20)).bfloat16()
    >>> (batch,) = evaluation_batches(model, [Example([5, 1], [7, 8, 1])])
    >>> model_logits(model, batch).shape, model_logits(model, batch).dtype
    (torch.Size([1, 3, 20]), torch.float32)
    """
    return at_least_float32(target_logits(model, batch))


def _same_best(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    return student_logits.argmax(-1) == teacher_logits.argmax(-1)


def _order(model: PreTrainedModel, examples: Sequence[Example]) -> list[list[int]]:
    return by_length(lengths_for(model.config, examples), EVALUATION_TOKENS)


def _share(distilled: float, alone: float, teacher: float) -> float | None:
    return (distilled - alone) / (teacher - alone) if teacher > alone else None


def _interval(draws: Sequence[float], digits: int) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [round(float(low), digits), round(float(high), digits)]
