"""`moerge.eval`: measures models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ._decode import decode
from ._process import PathLike, flags, run_document


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Divergence:
    """How far the predictions are from those of the first model."""

    kl: Estimate
    """Kullback-Leibler divergence per token."""
    same_top: Estimate
    """Fraction of tokens with the same most likely successor."""


@dataclass(frozen=True)
class TextScore:
    """The perplexity of a text."""

    text: str
    perplexity: Estimate
    tokens: int
    scored: int
    """Tokens that count."""
    bits_per_byte: float
    divergence: Optional[Divergence] = None
    """With `kl`."""


@dataclass(frozen=True)
class MixedScore:
    """The perplexity of documents that change their subject."""

    documents: int
    scored: int
    perplexity: Estimate
    experts: Optional[Mapping[str, Any]] = None
    """Of an MoE: the perplexity with every token sent to the right expert, and with the best single expert."""


@dataclass(frozen=True)
class ChoicesScore:
    """Accuracy on a file of multiple-choice questions."""

    name: str
    acc: Estimate
    acc_norm: Estimate
    acc_bytes: Estimate
    cut: int
    """Questions that lost their beginning to fit into the context."""
    items: tuple[Mapping[str, Any], ...] = field(repr=False)
    """One entry per question."""


@dataclass(frozen=True)
class AnswersScore:
    """Accuracy on a file of questions with generated answers."""

    name: str
    exact_match: Estimate
    items: tuple[Mapping[str, Any], ...] = field(repr=False)
    """One entry per question."""


@dataclass(frozen=True)
class Metric:
    """A metric of a task."""

    name: str
    value: float
    error: float


@dataclass(frozen=True)
class TaskScore:
    """The result of a task of lm-evaluation-harness."""

    name: str
    shots: int
    metrics: tuple[Metric, ...]
    cut: int
    """Questions that lost their beginning to fit into the context."""
    items: tuple[Mapping[str, Any], ...] = field(repr=False)
    """One entry per question."""


@dataclass(frozen=True)
class GroupScore:
    """The mean of a group of tasks, such as `mmlu`, over all their questions, as lm-evaluation-harness reports it."""

    name: str
    shots: int
    questions: int
    metric: Metric


@dataclass(frozen=True)
class ModelScore:
    """The results of a model."""

    model: str
    """As it was passed."""
    moe: bool
    context: int
    """Tokens per window."""
    stride: int
    """Tokens between windows."""
    texts: tuple[TextScore, ...]
    choices: tuple[ChoicesScore, ...]
    answers: tuple[AnswersScore, ...]
    tasks: tuple[TaskScore, ...]
    mixed: Optional[MixedScore] = None
    groups: tuple[GroupScore, ...] = ()


@dataclass(frozen=True)
class SuitePart:
    """A column of a leaderboard."""

    name: str
    mean: Optional[Estimate]
    tasks: int
    missing: tuple[str, ...]
    """Tasks without a data set."""


@dataclass(frozen=True)
class SuiteScore:
    """The result of a suite."""

    name: str
    average: Optional[Estimate]
    parts: tuple[SuitePart, ...]


@dataclass(frozen=True)
class Evaluation:
    """The results of all models, in the order in which they were passed."""

    models: tuple[ModelScore, ...]
    shots: int
    suites: tuple[tuple[SuiteScore, ...], ...] = ()
    """For each model, the results of the suites."""
    compared: tuple[Any, ...] = ()
    """With `--compare` in `extra_args`: the questions that changed."""
    warnings: tuple[str, ...] = ()
    json: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Everything that `moerge eval --json` printed."""


def eval(
    *models: PathLike,
    text: Union[PathLike, Sequence[PathLike]] = (),
    choices: Union[PathLike, Sequence[PathLike]] = (),
    questions: Union[PathLike, Sequence[PathLike]] = (),
    tasks: Union[str, Sequence[str]] = (),
    suite: Union[str, Sequence[str]] = (),
    shots: Optional[int] = None,
    limit: Optional[int] = None,
    context: Optional[int] = None,
    stride: Optional[int] = None,
    kl: bool = False,
    mixed: bool = False,
    quant: Optional[str] = None,
    memory: Union[int, str, None] = None,
    answers: Optional[PathLike] = None,
    num_threads: Optional[int] = None,
    extra_args: Sequence[str] = (),
) -> Evaluation:
    """Measures `models`: perplexity of `text` files, accuracy on `choices`, `questions`, `tasks` and suites.

    The arguments are the flags of `moerge eval`; `extra_args` are further ones. Raises MoergeError if a model or a file
    cannot be used.
    """
    options = flags(
        json=True,
        text=text,
        choices=choices,
        questions=questions,
        tasks=tasks,
        suite=suite,
        shots=shots,
        limit=limit,
        context=context,
        stride=stride,
        kl=kl,
        mixed=mixed,
        quant=quant,
        memory=memory,
        answers=answers,
        num_threads=num_threads,
    )
    document, warnings = run_document(["eval", *options, *extra_args, "--", *(os.fspath(model) for model in models)])
    return decode(Evaluation, {**document, "warnings": warnings, "json": document})
