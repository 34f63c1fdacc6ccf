"""What a merge reports while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from ._decode import decode


@dataclass(frozen=True)
class StageStarted:
    """A stage begins and will count to `total`."""

    stage: str
    """`download`, `prompts`, `text`, `gates`, `weights`, `verify`, `upload`, ..."""
    total: int
    done: int
    """What an earlier run did."""
    unit: str
    """`bytes`, `layers`, `tensors` or `tokens`."""


@dataclass(frozen=True)
class StageAdvanced:
    """Progress of a running stage, at most four times a second."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class StageFinished:
    """A stage is complete."""

    stage: str
    done: int
    summary: str
    """What it did, for people."""
    seconds: float


@dataclass(frozen=True)
class Message:
    """A remark for people."""

    level: str
    """`warning`, `note` or `detail`."""
    message: str


Event = Union[StageStarted, StageAdvanced, StageFinished, Message]


def event_from(event: Mapping[str, Any]) -> Optional[Event]:
    """The event that the binary printed, or None for one that this version does not know."""
    kind = event["event"]
    if kind == "start":
        return decode(StageStarted, event)
    if kind == "advance":
        return decode(StageAdvanced, event)
    if kind == "finish":
        return decode(StageFinished, event)
    if kind in ("warning", "note", "detail"):
        return Message(kind, event["message"])
    return None
