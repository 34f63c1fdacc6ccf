"""`python -m moerge`: runs the binary in place of this interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

from ._binary import find_binary


def main() -> int:
    command = [str(find_binary()), *sys.argv[1:]]
    if os.name == "posix":
        os.execv(command[0], command)
    try:
        # Windows has no exec: it would return to the shell before the child ends.
        return subprocess.run(command).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
