#!/bin/bash
# Merges on several machines: slurm.sh RECIPE OUT PARTS [FLAG...]
#
# RECIPE, OUT and the models lie on a disk that all nodes share. Flags of `moerge merge`, such as --out-shard-size, are
# the same in every step. Prints the id of the last job, which publishes OUT.
set -euo pipefail
recipe=$1 out=$2 parts=$3
shift 3
merge=$(printf '%q ' moerge merge "$recipe" "$out" --quiet "$@")

# A dense merge has no routers: leave this job, and the dependency on it, out.
routers=$(sbatch --parsable --job-name=routers --cpus-per-task=1 --mem=2G --wrap "$merge --routers-only")

# --part takes its number and the number of parts from the array. A task that is killed is queued again.
array=$(sbatch --parsable --job-name=parts --dependency="afterok:$routers" --array="1-$parts" --requeue \
  --cpus-per-task=1 --mem=2G --wrap "$merge --part")

sbatch --parsable --job-name=finish --dependency="afterok:$array" --kill-on-invalid-dep=yes \
  --cpus-per-task=1 --mem=2G --wrap "$merge --finish"
