"""Merges on the machines of a Ray cluster, which share the disk with the recipe, the models and the output.

    ray_merge.py RECIPE OUT PARTS [FLAG...]

Flags of `moerge merge`, such as --out-shard-size, are the same in every step. A dense merge has no routers: leave that step
out.
"""

import subprocess
import sys

import ray

RECIPE, OUT, PARTS, FLAGS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]


# A part that fails, or whose machine does, is made again.
@ray.remote(num_cpus=1, max_retries=5, retry_exceptions=True)
def merge(*step):
    subprocess.run(["moerge", "merge", RECIPE, OUT, "--quiet", *FLAGS, *step], check=True)


ray.init()
ray.get(merge.remote("--routers-only"))
ray.get([merge.remote("--part", f"{number}/{PARTS}") for number in range(1, PARTS + 1)])
ray.get(merge.remote("--finish"))
