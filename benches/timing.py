"""What a `moerge eval` takes."""

import json
import os
import subprocess
import sys
import time


def moerge_eval(binary, *arguments):
    """(results of the first model, seconds, seconds of the processor)"""
    wall, before = time.monotonic(), os.times()
    done = subprocess.run([str(part) for part in (binary, "eval", *arguments, "--json")], capture_output=True, text=True)
    wall, after = time.monotonic() - wall, os.times()
    if done.returncode:
        sys.exit(f"moerge eval failed: {done.stderr.strip()}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(done.stdout)["models"][0], wall, cpu
