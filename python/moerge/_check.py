"""`moerge.verify` and `moerge.inspect`: whether a model is sound, and what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ._decode import decode
from ._process import PathLike, flags, run_document


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or odd about a model."""

    severity: str
    """`error` if the model is broken, or `warning`."""
    kind: str
    """`missing`, `shape`, `not_finite`, `fingerprint`, ..."""
    message: str
    tensor: Optional[str] = None
    hint: Optional[str] = None


@dataclass(frozen=True)
class Verification:
    """What a check of a model found."""

    family: Optional[str]
    """`model_type` of the model, if moerge knows the family."""
    files: int
    tensors: int
    bytes: int
    """Bytes of all tensors; all were read."""
    fingerprints_equal: Optional[int]
    """Tensors with the fingerprint in `moerge.json`; None if there is no such file."""
    small_files: tuple[str, ...]
    """What was checked beside the weights: `tokenizer`, `chat template`, ..."""
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder, in elements."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    sliding_window: Optional[int]
    tied_embeddings: bool


@dataclass(frozen=True)
class MoeSizes:
    """Sizes of a Mixture of Experts."""

    experts: int
    experts_per_token: int
    shared: Optional[int]
    """Width of the shared expert."""


@dataclass(frozen=True)
class Inspection:
    """What a folder or file contains."""

    kind: str
    """`dense`, `moe`, `adapter` or `unknown`."""
    model_type: Optional[str]
    architecture: Optional[str] = field(metadata={"json": "class"})
    """The class in transformers that loads it."""
    parameters: int
    active_parameters: int
    """Parameters per token."""
    bytes: int
    """The size of the weight files."""
    tensors: int
    dtypes: Mapping[str, int]
    """The number of tensors of each element type."""
    sizes: Optional[Sizes]
    moe: Optional[MoeSizes]
    adapter: Optional[Mapping[str, Any]]
    """The settings of an adapter."""
    tokenizer: tuple[str, ...]
    """Files of the tokenizer."""
    chat_template: Optional[str]
    """The file with the chat template."""
    notes: tuple[str, ...]
    """Why something is unknown."""
    json: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Everything that `moerge inspect --json` printed."""


def verify(
    model: PathLike, *, num_threads: Optional[int] = None, extra_args: Sequence[str] = ()
) -> Verification:
    """Reads every byte of `model` and checks it. A broken model is not an exception: look at `sound` and `findings`.

    Raises MoergeError if there is nothing to check.
    """
    options = flags(json=True, num_threads=num_threads)
    document, _ = run_document(["verify", *options, *extra_args, "--", os.fspath(model)])
    return decode(Verification, document)


def inspect(model: PathLike, *, extra_args: Sequence[str] = ()) -> Inspection:
    """What `model` contains, from its headers and small files. `model+adapter` is two calls.

    Raises MoergeError if it cannot be read.
    """
    document, _ = run_document(["inspect", "--json", *extra_args, "--", os.fspath(model)])
    return decode(Inspection, {**document, "json": document})
