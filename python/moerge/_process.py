"""Runs the binary with `--json` and reads what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Callable, Optional, Union

from ._binary import find_binary
from ._errors import error_from

PathLike = Union[str, "os.PathLike[str]"]

Recipe = Union[PathLike, Mapping[str, Any]]
"""A recipe: the path of a YAML file, or its content as a dict.

Relative paths in a file are relative to its folder; those in a dict are relative to the working directory.
"""

STOP_SECONDS = 2.0
"""How long the binary may take to stop by itself after Ctrl-C."""


def run_document(arguments: Sequence[str], recipe: Optional[Recipe] = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Runs a command that prints one JSON document. Gives the document, and the warnings on stderr.

    Raises MoergeError if the command fails.
    """
    with _Run(arguments, recipe) as run:
        printed = run.stdout.read()
        run.wait()
    documents = _documents(printed)
    errors = [document for document in documents if document.get("event") == "error"]
    # `verify` exits with 1 if the model is broken, which is a result.
    if errors or not documents or run.code not in (0, 1):
        raise error_from(errors, run.stderr, run.code)
    return documents[0], _warnings(run.stderr)


def run_events(
    arguments: Sequence[str], recipe: Optional[Recipe], on_event: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Runs a command that prints events. Calls `on_event` for each, and gives those with results.

    If `on_event` raises, the command is stopped; what is finished is kept. Raises MoergeError if the command fails.
    """
    results, errors = [], []
    with _Run(arguments, recipe) as run:
        for line in run.stdout:
            event = json.loads(line)
            if event["event"] == "error":
                errors.append(event)
            elif event["event"] == "result":
                results.append(event)
            else:
                on_event(event)
        run.wait()
    if run.code != 0:
        raise error_from(errors, run.stderr, run.code)
    return results


def argument(recipe: Recipe) -> str:
    """The recipe on the command line: `-` for one that goes to standard input."""
    return "-" if isinstance(recipe, Mapping) else os.fspath(recipe)


def flags(**options: Any) -> list[str]:
    """Options as arguments: `memory="2GiB"` is `--memory=2GiB`. None and False are left out; a list repeats the flag."""
    arguments = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            arguments += [f"{flag}={_text(item)}" for item in value]
        elif value is not None and value is not False:
            arguments.append(f"{flag}={_text(value)}")
    return arguments


def _text(value: Any) -> str:
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


class _Run:
    """A running binary. Leaving its `with` block by an exception stops it and waits for its end."""

    def __init__(self, arguments: Sequence[str], recipe: Optional[Recipe]) -> None:
        self.code = 0
        self.stderr = ""
        # Files, not pipes: nobody has to read or write them meanwhile.
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        stdin: Union[int, IO[bytes]] = subprocess.DEVNULL
        if isinstance(recipe, Mapping):
            stdin = tempfile.TemporaryFile()
            stdin.write(json.dumps(recipe, default=_text, ensure_ascii=False).encode())
            stdin.seek(0)
        try:
            self._process = subprocess.Popen(
                [str(find_binary()), *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                errors="replace",
            )
        except BaseException:
            self._errors.close()
            raise
        finally:
            if not isinstance(stdin, int):
                stdin.close()
        assert self._process.stdout is not None
        self.stdout: IO[str] = self._process.stdout

    def wait(self) -> None:
        self.code = self._process.wait()
        self._errors.seek(0)
        self.stderr = self._errors.read().decode("utf-8", "replace")

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            if error is not None:
                self._stop(wait=isinstance(error, KeyboardInterrupt))
        finally:
            self.stdout.close()
            self._errors.close()

    def _stop(self, wait: bool) -> None:
        """Stops the binary and waits for its end. `wait` gives it time first: a terminal sends Ctrl-C to it as well."""
        # It must not wait for a reader.
        self.stdout.close()
        try:
            self._process.wait(STOP_SECONDS if wait else 0)
            return
        except subprocess.TimeoutExpired:
            pass
        if sys.platform == "win32":
            # Safe at any time: the output appears only when it is complete.
            self._process.terminate()
        else:
            self._process.send_signal(signal.SIGINT)
        self._process.wait()


def _documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents in `text`: the result, or what is known without it, and the errors."""
    decoder, documents, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
        while at < len(text) and text[at].isspace():
            at += 1
    return documents


def _warnings(stderr: str) -> tuple[str, ...]:
    """The warnings on stderr, with the indented lines that belong to them."""
    warnings: list[str] = []
    inside = False
    for line in stderr.splitlines():
        if line.startswith("warning: "):
            warnings.append(line[len("warning: ") :])
        elif inside and line.startswith("  "):
            warnings[-1] += "\n" + line.strip()
        inside = line.startswith("warning: ") or (inside and line.startswith("  "))
    return tuple(warnings)
