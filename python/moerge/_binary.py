"""Finds the executable that was installed with this package."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def find_binary() -> Path:
    """The path of the `moerge` executable that belongs to this package.

    Raises FileNotFoundError if it is in none of the places where pip puts executables.
    """
    name = "moerge" + (sysconfig.get_config_var("EXE") or "")
    places = _places()
    for place in places:
        binary = place / name
        if binary.is_file():
            return binary
    searched = ", ".join(str(place) for place in places)
    raise FileNotFoundError(f"{name} is not installed with the Python package `moerge`; searched {searched}")


def _places() -> list[Path]:
    package = Path(__file__).resolve().parent
    user_scheme = (
        sysconfig.get_preferred_scheme("user")
        if sys.version_info >= (3, 10)
        else ("nt_user" if os.name == "nt" else "posix_user")
    )
    scripts = [
        # Where this interpreter's environment has them.
        sysconfig.get_path("scripts"),
        # `pip install --user`
        sysconfig.get_path("scripts", scheme=user_scheme),
        # `pip install --target DIR` puts them into DIR/bin, beside the package.
        str(package.parent / "bin"),
        # `pip install --prefix DIR`: DIR/lib/python3.x/site-packages/moerge, and Lib\site-packages\moerge on Windows.
        str(package.parents[3] / "bin") if len(package.parents) > 3 else None,
        str(package.parents[2] / "Scripts") if len(package.parents) > 2 else None,
    ]
    return list(dict.fromkeys(Path(path) for path in scripts if path))
