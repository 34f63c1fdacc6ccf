from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import moerge


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8")


def test_the_binary_is_the_one_of_this_environment() -> None:
    assert moerge.find_binary().parent == Path(sysconfig.get_path("scripts"))


def test_python_m_moerge_is_the_command() -> None:
    done = run(sys.executable, "-m", "moerge", "--version")
    assert done.returncode == 0
    assert done.stdout == run(str(moerge.find_binary()), "--version").stdout == f"moerge {version('moerge')}\n"


def test_python_m_moerge_passes_exit_codes_on() -> None:
    assert run(sys.executable, "-m", "moerge", "verify", "nope").returncode == 1
    assert run(sys.executable, "-m", "moerge", "nope").returncode == 2
