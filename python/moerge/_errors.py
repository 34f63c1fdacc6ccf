"""The error that every function raises when the binary fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ._decode import decode


@dataclass(frozen=True)
class Diagnostic:
    """One fault: what is wrong, where, and what to do."""

    message: str
    kind: str = "input"
    """`input`: a recipe, model or argument is wrong. `io`: a file or the network failed. `interrupted`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Details by name, such as the tensor's name or the shape that was expected."""
    hints: tuple[str, ...] = ()
    file: Optional[str] = None
    """The file that the fault is in; `stdin` for a recipe that was passed as a dict."""
    line: Optional[int] = None
    """Line in `file`, from 1."""
    column: Optional[int] = None
    """Column in `line`, in characters, from 1."""
    label: Optional[str] = None
    """A remark on that place."""

    def __str__(self) -> str:
        lines = [self.message]
        if self.file is not None and self.line is not None:
            label = f": {self.label}" if self.label else ""
            lines.append(f"  at {self.file}:{self.line}:{self.column}{label}")
        lines += [f"  {name}: {fact}" for name, fact in self.facts.items()]
        lines += [f"  hint: {hint}" for hint in self.hints]
        return "\n".join(lines)


class MoergeError(Exception):
    """moerge could not do what was asked.

    `diagnostics` has everything that was found wrong; a recipe is checked to its end. `message`, `facts` and `hints` are
    those of the first.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic], exit_code: int = 1) -> None:
        self.diagnostics = tuple(diagnostics)
        self.exit_code = exit_code
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))

    @property
    def message(self) -> str:
        return self.diagnostics[0].message

    @property
    def facts(self) -> Mapping[str, str]:
        return self.diagnostics[0].facts

    @property
    def hints(self) -> tuple[str, ...]:
        return self.diagnostics[0].hints

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.diagnostics, self.exit_code)


def error_from(events: Sequence[Mapping[str, Any]], stderr: str, exit_code: int) -> MoergeError:
    """The error of a run: its error events, or else what it wrote to stderr, as for wrong usage."""
    diagnostics = [decode(Diagnostic, event) for event in events]
    if not diagnostics:
        text = stderr.strip()
        text = text[len("error: ") :] if text.startswith("error: ") else text
        kind = "interrupted" if exit_code == INTERRUPTED else "input"
        diagnostics = [Diagnostic(text or f"moerge ended with exit code {exit_code}", kind)]
    return MoergeError(diagnostics, exit_code)


INTERRUPTED = 130
"""The exit code after Ctrl-C."""
