"""`moerge.merge`: builds the output of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from ._decode import decode
from ._events import Event, Message, event_from
from ._process import PathLike, Recipe, argument, flags, run_events


@dataclass(frozen=True)
class MergedFile:
    """A GGUF file that a merge wrote."""

    out: Path
    quant: str
    parts: int
    """The number of files that it is split into."""
    bytes: int
    already_there: bool


@dataclass(frozen=True)
class Upload:
    """A commit to the Hub."""

    url: str
    commit: str
    unchanged: bool
    """Whether the repository had the same content already."""
    files: int
    bytes: int


@dataclass(frozen=True)
class MergeResult:
    """What a merge built."""

    out: Path
    bytes: int
    """The size of the output."""
    seconds: float
    already_there: bool
    """Whether an earlier run built the same output."""
    architecture: str
    """The output's class in transformers."""
    parameters: int
    tensors: int
    shards: int
    """The number of weight files."""
    active_parameters: Optional[int] = None
    """Parameters per token of a Mixture of Experts."""
    routing: Optional[Mapping[str, Any]] = None
    """How well fitted routers route: the content of `routing_report.json`."""
    merge_method: Optional[str] = None
    """The method of a dense merge."""
    layers: Optional[int] = None
    """The number of layers of a dense merge, if the recipe has slices."""
    files: tuple[MergedFile, ...] = ()
    """The files, if the output is GGUF."""
    upload: Optional[Upload] = None
    """The commit, if `push` was passed."""
    warnings: tuple[str, ...] = ()


def merge(
    recipe: Recipe,
    out: PathLike,
    *,
    on_progress: Optional[Callable[[Event], None]] = None,
    memory: Union[int, str, None] = None,
    force: bool = False,
    quant: Union[str, Sequence[str]] = (),
    imatrix: Optional[PathLike] = None,
    balance: bool = False,
    push: Optional[str] = None,
    private: bool = False,
    num_threads: Optional[int] = None,
    extra_args: Sequence[str] = (),
) -> MergeResult:
    """Builds the output of `recipe` as the folder `out`, or as a GGUF file if `out` ends in `.gguf`.

    `on_progress` is called with each event, in the calling thread. The arguments are the flags of `moerge merge`;
    `extra_args` are further ones.

    Ctrl-C stops the merge, as does an exception of `on_progress`. `out` exists only when it is complete; call `merge`
    with the same arguments to resume. Raises MoergeError if the merge fails.
    """
    for flag in ("--part", "--routers-only"):
        if any(given.split("=")[0] == flag for given in extra_args):
            raise ValueError(f"{flag} makes a part of an output, which has no result: use the command")
    options = flags(
        json=True,
        memory=memory,
        force=force,
        quant=quant,
        imatrix=imatrix,
        balance=balance,
        push=push,
        private=private,
        num_threads=num_threads,
    )
    warnings: list[str] = []

    def on_event(printed: dict[str, Any]) -> None:
        event = event_from(printed)
        if isinstance(event, Message) and event.level == "warning":
            warnings.append(event.message)
        if event is not None and on_progress is not None:
            on_progress(event)

    arguments = ["merge", *options, *extra_args, "--", argument(recipe), os.fspath(out)]
    built, *uploaded = run_events(arguments, recipe, on_event)
    upload = decode(Upload, uploaded[0]) if uploaded else None
    return decode(MergeResult, {**built, "upload": upload, "warnings": warnings})
