"""`moerge.plan`: what a recipe would produce."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ._decode import decode
from ._process import PathLike, Recipe, argument, flags, run_document


@dataclass(frozen=True)
class Memory:
    """Memory of a merge, in bytes."""

    needed: int
    budget: Optional[int] = None
    """The `memory` that was passed."""


@dataclass(frozen=True)
class Unused:
    """Weights of a model that the output leaves out."""

    source: str
    what: str
    """What they are, and why they are left out."""
    tensors: int
    bytes: int


@dataclass(frozen=True)
class PlannedFile:
    """A GGUF file."""

    quant: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What a merge would produce: a `MoePlan` or a `DensePlan`."""

    architecture: str
    """The output's class in transformers."""
    parameters: int
    tensors: int
    shards: tuple[int, ...]
    """The size of each weight file in bytes."""
    weight_bytes: int
    """The size of all weight files, exact."""
    max_bytes: int
    """An upper bound for the size of the output."""
    source_bytes: int
    """Bytes that are read from the models."""
    memory: Memory
    disk_free: Optional[int] = None
    """Free bytes on the output's disk."""
    files: tuple[PlannedFile, ...] = ()
    """The files, if the output is GGUF."""
    unused: tuple[Unused, ...] = ()
    warnings: tuple[str, ...] = ()
    json: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Everything that `moerge plan --json` printed."""


@dataclass(frozen=True)
class PlannedModel:
    """A model of an MoE recipe."""

    reference: str
    """As written in the recipe."""
    model_type: str
    dtype: str


@dataclass(frozen=True)
class PlannedExpert(PlannedModel):
    """An expert of an MoE recipe."""

    intermediate_size: int
    positive_prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()
    layers: Optional[str] = None
    """The layers that it is limited to, such as `0-11, 20`."""


@dataclass(frozen=True)
class _MoeFields:
    why: str
    """Why this architecture was chosen."""
    experts: int
    experts_per_token: int
    active_parameters: int
    dtype: str
    gate_mode: str
    shared_weights: str
    """The origin of attention, norms, embeddings and head: `base`, or the method that merges them."""
    base: PlannedModel
    expert_models: tuple[PlannedExpert, ...]


@dataclass(frozen=True)
class MoePlan(Plan, _MoeFields):
    """The plan of a Mixture of Experts."""

    shared_expert: Optional[PlannedExpert] = None


@dataclass(frozen=True)
class MergedModel:
    """A model of a dense merge."""

    reference: str
    """As written in the recipe."""
    base: bool
    bytes: int


@dataclass(frozen=True)
class _DenseFields:
    merge_method: str
    models: tuple[MergedModel, ...]


@dataclass(frozen=True)
class DensePlan(Plan, _DenseFields):
    """The plan of a dense merge."""

    layers: Optional[int] = None
    """The number of layers, if the recipe has slices."""


def plan(
    recipe: Recipe,
    out: PathLike = "out",
    *,
    memory: Union[int, str, None] = None,
    quant: Union[str, Sequence[str]] = (),
    extra_args: Sequence[str] = (),
) -> Plan:
    """What `moerge.merge` with the same arguments would produce. Reads only headers and downloads no weights.

    `extra_args` are further flags of `moerge plan`. Raises MoergeError if the recipe cannot be merged.
    """
    options = flags(json=True, memory=memory, quant=quant)
    document, _ = run_document(["plan", *options, *extra_args, "--", argument(recipe), os.fspath(out)], recipe)
    output, shards = document["output"], document["shards"]
    facts = {
        **document,
        "max_bytes": output["max_bytes"],
        "disk_free": output["disk_free"],
        "shards": [shard["bytes"] if isinstance(shard, dict) else shard for shard in shards],
        "files": document.get("gguf", {}).get("files", []),
        "json": document,
    }
    return decode(DensePlan, facts) if "merge_method" in document else decode(MoePlan, facts)
