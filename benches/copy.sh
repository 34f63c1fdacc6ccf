#!/usr/bin/env bash
# Copying: moerge against `cp` and `sync` of the same bytes on the same disk, in turn, cold and warm.
#
#   benches/copy.sh MODELS [ROUNDS]      MODELS: made by benches/make_mistral6.py
#
# Cold means that the page cache was dropped before each run (needs root). Where mergekit-moe is on the PATH it runs
# once, too. Prints wall seconds, the ratio to cp, and peak memory.
set -euo pipefail
models=$(realpath "${1:?folder with base, e1, e2, e3}")
rounds=${2:-3}
cd "$(dirname "$0")/.."
moerge=${MOERGE:-$PWD/target/release/moerge} # a binary that is there already may be named
[ -n "${MOERGE:-}" ] || cargo build --release --quiet
work=$(mktemp -d "$models/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$models"

cat >"$work/random.yml" <<YAML
base_model: $models/base
gate_mode: random
dtype: bfloat16
experts:
  - source_model: $models/base
  - source_model: $models/e1
  - source_model: $models/e2
  - source_model: $models/e3
YAML

cold() { sync; echo 3 >/proc/sys/vm/drop_caches; }
warm() { sync; find base e1 e2 e3 -name '*.safetensors' -exec cat {} + >/dev/null; }
timed() { /usr/bin/time -f '%e %M' -o "$work/time" "$@"; read -r wall rss <"$work/time"; }

"$moerge" merge --quiet "$work/random.yml" "$work/reference"
bytes=$(du -sb "$work/reference" | cut -f1)
printf 'output: %s bytes\n%-6s %-14s %8s %8s %10s\n' "$bytes" cache command 'wall s' 'to cp' 'peak MiB'
for cache in cold warm; do
  for _ in $(seq "$rounds"); do
    # cp reads the finished output, moerge reads the sources: the same number of bytes.
    if [ $cache = warm ]; then cat "$work"/reference/*.safetensors >/dev/null; sync; else cold; fi
    timed sh -c "cp -r '$work/reference' '$work/copy' && sync '$work'/copy/* '$work/copy'"
    cp_wall=$wall
    printf '%-6s %-14s %8s %8s %10s\n' $cache 'cp; sync' "$wall" 1.00 $((rss / 1024))
    rm -rf "$work/copy"
    $cache
    timed "$moerge" merge --quiet "$work/random.yml" "$work/out"
    printf '%-6s %-14s %8s %8s %10s\n' $cache moerge "$wall" "$(echo "scale=2; $wall / $cp_wall" | bc)" $((rss / 1024))
    rm -rf "$work/out"
  done
done
if command -v mergekit-moe >/dev/null; then
  cold
  timed mergekit-moe "$work/random.yml" "$work/out" >/dev/null 2>&1
  printf '%-6s %-14s %8s %8s %10s\n' cold mergekit-moe "$wall" "$(echo "scale=2; $wall / $cp_wall" | bc)" $((rss / 1024))
fi
