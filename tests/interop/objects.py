"""Merges from and to a real S3 server, behind a proxy that makes faults. Run by hand; see README.md.

    objects.py MOERGE_BINARY S3S_FS_BINARY [--only TEST ...] [--kills 8] [--seed 0]

S3S_FS_BINARY is the server: cargo install s3s-fs --version 0.14.1 --features binary. Needs boto3 and numpy. Every output is
compared byte by byte with that of a local merge of the same recipe, and no upload may be left open.
Exit code 0: all tests passed; 1: one failed.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import botocore.config
import numpy

from cluster import write_model

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZER = HERE.parents[1] / "examples/tiny/base"
KEY, SECRET = "AKEXAMPLE", "SECRETEXAMPLE"
MOE = """base_model: {at}base
gate_mode: hidden
dtype: bfloat16
experts:
  - {{source_model: {at}base, positive_prompts: ["a quiet day"]}}
  - {{source_model: {at}a, positive_prompts: ["def f(x):"], noise_scale: 0.01}}
  - {{source_model: {at}b, positive_prompts: ["once upon a time"], noise_scale: 0.01}}
"""
DENSE = """merge_method: dare_ties
base_model: {at}base
dtype: bfloat16
models:
  - {{model: {at}a, parameters: {{weight: 0.5, density: 0.5}}}}
  - {{model: {at}b, parameters: {{weight: 0.5, density: 0.5}}}}
"""
SHARDS = ["--out-shard-size", "60MB"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not start")


class Server:
    """s3s-fs on a folder."""

    def __init__(self, binary, folder):
        self.folder, self.port = folder, free_port()
        command = [binary, "--host", "127.0.0.1", "--port", str(self.port), "--access-key", KEY, "--secret-key", SECRET, folder]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port)

    def client(self):
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1", config=botocore.config.Config(s3={"addressing_style": "path"}))


class Proxy:
    """Passes bytes between client and server. `fault(request line, number)` says what happens to a connection's request:
    None, "cut" in the middle of the answer's body, "503", "slow", "silent", "flip" a byte of the answer's body, or "damage"
    the request's."""

    def __init__(self, port):
        self.target, self.fault, self.made, self.number = port, lambda line, number: None, {}, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                while self.exchange(client, server):
                    pass
        except OSError:
            pass

    def exchange(self, client, server):
        """One request and its answer; whether the connection stays open."""
        head, rest = read_head(client)
        if not head:
            return False
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        self.number += 1
        fault = self.fault(line, self.number)
        if fault:
            self.made[fault] = self.made.get(fault, 0) + 1
        length = content_length(head)
        if fault == "503":
            drain(client, length - len(rest))
            body = b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'
            client.sendall(b"HTTP/1.1 503 Slow Down\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            return True
        if fault == "silent":
            time.sleep(600)
            return False
        if fault == "damage" and length:
            rest = bytes([rest[0] ^ 1]) + rest[1:] if rest else rest
        server.sendall(head + rest)
        if fault == "damage" and length and not rest:
            first = client.recv(1 << 16)
            server.sendall(bytes([first[0] ^ 1]) + first[1:])
            rest = first
        forward(client, server, length - len(rest))
        head, rest = read_head(server)
        if not head:
            return False
        is_head = line.startswith("HEAD ") or b" 304 " in head[:16] or b" 204 " in head[:16]
        length = 0 if is_head else content_length(head)
        if fault == "flip" and rest:
            rest = bytes([rest[0] ^ 1]) + rest[1:]
        client.sendall(head)
        if fault == "flip" and length and not rest:
            first = server.recv(1 << 16)
            rest = bytes([first[0] ^ 1]) + first[1:]
        if fault == "cut" and length > 1:
            client.sendall(rest[: length // 2])
            forward(server, client, length // 2 - len(rest))
            return False
        client.sendall(rest)
        forward(server, client, length - len(rest), pause=0.05 if fault == "slow" else 0)
        return True


def read_head(side):
    """The lines of a request or an answer with the empty one, and what was read of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = side.recv(1 << 16)
        if not piece:
            return b"", b""
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    return head + b"\r\n\r\n", rest


def content_length(head):
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def drain(side, length):
    while length > 0:
        piece = side.recv(min(length, 1 << 16))
        if not piece:
            raise OSError("closed")
        length -= len(piece)


def forward(source, target, length, pause=0):
    while length > 0:
        piece = source.recv(min(length, 1 << 16))
        if not piece:
            raise OSError("closed")
        target.sendall(piece)
        length -= len(piece)
        time.sleep(pause)


class Bench:
    """The server, the proxy, the models on both sides, and what is expected."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.data = work / "data"
        for bucket in ["models", "out"]:
            (self.data / bucket).mkdir(parents=True)
        for seed, name in enumerate(["base", "a", "b"]):
            write_model(work / name, seed, TOKENIZER)
        self.server = Server(args.server, self.data)
        self.proxy = Proxy(self.server.port)
        self.client = self.server.client()
        for name in ["base", "a", "b"]:
            for file in (work / name).iterdir():
                self.client.upload_file(str(file), "models", f"{name}/{file.name}")
        self.expected = {}
        for kind, recipe in [("moe", MOE), ("dense", DENSE)]:
            (work / f"{kind}-local.yml").write_text(recipe.format(at=""))
            (work / f"{kind}.yml").write_text(recipe.format(at="s3://models/"))
            # The recipe is part of the output, so the local merge gets the one with URLs, from a copy of the bucket.
            self.run("merge", work / f"{kind}.yml", work / "expected" / kind, *SHARDS, check=True)
            self.expected[kind] = read_all(work / "expected" / kind)
            self.run("merge", work / f"{kind}-local.yml", work / "plain" / kind, *SHARDS, check=True)
            plain = read_all(work / "plain" / kind)
            for name in self.expected[kind]:
                if name.endswith(".safetensors"):
                    assert plain[name] == self.expected[kind][name], f"{kind}: {name} read from S3 is not that read locally"

    def environment(self, through_proxy=False, **more):
        port = self.proxy.port if through_proxy else self.server.port
        own = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
               "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        return {**os.environ, **own, **more}

    def command(self, *words):
        return [str(self.args.moerge), *(str(word) for word in words)]

    def run(self, *words, through_proxy=False, check=False, timeout=600, **more):
        done = subprocess.run(self.command(*words), env=self.environment(through_proxy, **more), capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, done.stderr
        for credential in [SECRET, KEY]:
            assert credential not in done.stdout + done.stderr, f"a credential was printed: {done.stderr}"
        return done

    def empty_out(self):
        shutil.rmtree(self.data / "out")
        (self.data / "out").mkdir()
        # What s3s-fs keeps about objects and open uploads.
        for file in self.data.iterdir():
            if file.name.startswith(".") and "out" in file.name:
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    def check_output(self, kind, name=None):
        found = read_all(self.data / "out" / (name or kind))
        assert sorted(found) == sorted(self.expected[kind]), f"{sorted(found)} instead of {sorted(self.expected[kind])}"
        for file, content in self.expected[kind].items():
            assert found[file] == content, f"{file} differs"
        keys = [entry["Key"] for entry in self.client.list_objects_v2(Bucket="out").get("Contents", [])]
        assert all(key.startswith((name or kind) + "/") for key in keys), f"left behind: {keys}"

    def open_uploads(self):
        return [file.name for file in self.data.iterdir() if file.name.startswith(".upload")]


def read_all(folder):
    files = folder.iterdir() if folder.is_dir() else []
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def test_plain(bench):
    """Merges without faults, and what is there is recognised, checked, read and replaced."""
    for kind in ["moe", "dense"]:
        bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, check=True)
        bench.check_output(kind)
        again = bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, check=True)
        assert "already built" in again.stdout, again.stdout
        assert not bench.open_uploads(), bench.open_uploads()
        for command in [["verify"], ["inspect"]]:
            bench.run(*command, f"s3://out/{kind}", check=True)
        bench.run("diff", f"s3://out/{kind}", bench.work / "expected" / kind, check=True)
        other = bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", "--out-shard-size", "30MB")
        assert other.returncode == 1 and "--force" in other.stderr, other.stderr
        bench.check_output(kind)
        bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", "--out-shard-size", "30MB", "--force", check=True)
        bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, "--force", check=True)
        bench.check_output(kind)
        bench.empty_out()
    bench.run("plan", bench.work / "moe.yml", check=True)


def faulty(bench, name, chance, hits=lambda line: True):
    """Merges with a fault in some of the requests whose first line it `hits`."""
    picks = random.Random(bench.args.seed)
    bench.proxy.made = {}
    bench.proxy.fault = lambda line, number: name if hits(line) and picks.random() < chance else None
    try:
        for kind in ["moe", "dense"]:
            bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, through_proxy=True, check=True)
            bench.check_output(kind)
            bench.empty_out()
    finally:
        bench.proxy.fault = lambda line, number: None
    print(f"    made: {bench.proxy.made} in {bench.proxy.number} requests")
    assert bench.proxy.made.get(name, 0) > 3, "too few faults"


def test_gguf(bench):
    """GGUF files, one and several that a model is split into: killed, finished, recognised, replaced."""
    local = bench.work / "gguf"
    local.mkdir()
    for name, split in [("whole.gguf", []), ("split.gguf", ["--max-size", "30MB"])]:
        words = ["merge", bench.work / "dense.yml"], ["--quant", "q8_0", *split]
        bench.run(*words[0], local / name, *words[1], check=True)
        expected = {file: content for file, content in read_all(local).items() if file.startswith(name.removesuffix(".gguf"))}
        assert len(expected) > 1 if split else len(expected) == 1, list(expected)
        first = min(expected)
        for wait in [0.2, 0.5, 1.0]:
            command = bench.command(*words[0], f"s3://out/{name}", *words[1], "--quiet")
            process = subprocess.Popen(command, env=bench.environment(), stderr=subprocess.DEVNULL)
            time.sleep(wait)
            process.kill()
            process.wait()
            there = [entry["Key"] for entry in bench.client.list_objects_v2(Bucket="out").get("Contents", [])]
            assert first not in there or set(expected) <= set(there), there
        bench.run(*words[0], f"s3://out/{name}", *words[1], check=True)
        assert read_all(bench.data / "out") == expected, sorted(read_all(bench.data / "out"))
        again = bench.run(*words[0], f"s3://out/{name}", *words[1], check=True)
        assert "already" in again.stdout, again.stdout
        bench.run("inspect", f"s3://out/{first}", check=True)
        other = [*words[0], f"s3://out/{name}", "--quant", "q6_k", *split]
        refused = bench.run(*other)
        assert refused.returncode == 1 and "--force" in refused.stderr, refused.stderr
        assert read_all(bench.data / "out") == expected
        bench.run(*other, "--force", check=True)
        assert read_all(bench.data / "out")[first] != expected[first]
        bench.run(*words[0], f"s3://out/{name}", *words[1], "--force", check=True)
        assert read_all(bench.data / "out") == expected, sorted(read_all(bench.data / "out"))
        bench.empty_out()


def test_cuts(bench):
    """Connections are cut in the middle of answers."""
    faulty(bench, "cut", 0.15)


def test_503(bench):
    """The server is overloaded."""
    faulty(bench, "503", 0.2)


def test_slow(bench):
    """Answers trickle."""
    faulty(bench, "slow", 0.1)


def test_damaged_uploads(bench):
    """A byte of what is sent is flipped: the signature holds the hash of the content, so the server refuses it."""
    faulty(bench, "damage", 0.3, lambda line: line.startswith("PUT "))


def test_damaged_answers(bench):
    """A byte of an answer is flipped, of an object that is read whole and has a checksum: config, tokenizer, index."""
    faulty(bench, "flip", 0.4, lambda line: line.startswith("GET ") and ".json" in line)


def test_changed_source(bench):
    """A source that is replaced while it is read is noticed."""
    path = next((bench.work / "a").glob("*.safetensors"))
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    state = {"reads": 0}

    def fault(line, number):
        if line.startswith("GET ") and "a/" in line and ".safetensors" in line:
            state["reads"] += 1
            if state["reads"] == 4:
                bench.client.put_object(Bucket="models", Key=f"a/{path.name}", Body=bytes(changed))
        return None

    bench.proxy.fault = fault
    try:
        done = bench.run("merge", bench.work / "dense.yml", "s3://out/dense", *SHARDS, through_proxy=True)
    finally:
        bench.proxy.fault = lambda line, number: None
        bench.client.upload_file(str(path), "models", f"a/{path.name}")
    assert done.returncode == 1 and ("replaced" in done.stderr or "changed" in done.stderr), done.stderr
    assert not (bench.data / "out/dense/config.json").exists()
    bench.empty_out()


def test_kills(bench):
    """The process is killed at random moments; the same command goes on, and nobody can read half."""
    picks = random.Random(bench.args.seed)
    for kind in ["moe", "dense"]:
        resumed = 0
        start = time.monotonic()
        bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, check=True)
        whole = time.monotonic() - start
        bench.empty_out()
        for _ in range(bench.args.kills):
            process = subprocess.Popen(bench.command("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS),
                                       env=bench.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Shards are made side by side, so the first is complete late.
            time.sleep(picks.uniform(0.6, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.wait()
            there = read_all(bench.data / "out" / kind)
            resumed += any(name.endswith(".safetensors") for name in there)
            if "config.json" in there:
                bench.empty_out()
            elif picks.random() < 0.3:
                bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, check=True)
                bench.check_output(kind)
                bench.empty_out()
        bench.run("merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS, check=True)
        bench.check_output(kind)
        print(f"    {kind}: shards were there after {resumed} of {bench.args.kills} kills")
        assert resumed, "no kill came after the first shard"
        bench.empty_out()


def test_parts(bench):
    """Several processes write parts of one output at once, with cuts."""
    picks = random.Random(bench.args.seed)
    bench.proxy.fault = lambda line, number: "cut" if picks.random() < 0.05 else None
    try:
        for kind in ["moe", "dense"]:
            merge = ["merge", bench.work / f"{kind}.yml", f"s3://out/{kind}", *SHARDS]
            if kind == "moe":
                bench.run(*merge, "--routers-only", check=True)
            started = [subprocess.Popen(bench.command(*merge, "--part", f"{part}/3"), env=bench.environment(True),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for part in [1, 2, 3, 2]]
            for process in started:
                _, errors = process.communicate(timeout=600)
                assert process.returncode == 0, errors
            assert not (bench.data / "out" / kind / "config.json").exists()
            bench.run(*merge, "--finish", check=True)
            bench.check_output(kind)
            bench.empty_out()
    finally:
        bench.proxy.fault = lambda line, number: None


def test_refusals(bench):
    """What cannot work is refused with a reason and a hint."""
    dense = bench.work / "dense.yml"

    def refused(*words, says, out="s3://out/x", recipe=dense, **more):
        start = time.monotonic()
        done = bench.run("merge", recipe, out, *words, **more)
        took = time.monotonic() - start
        message = done.stderr.strip()
        assert done.returncode == 1 and "hint:" in message and all(text in message for text in says), message
        print("    " + message.replace("\n", "\n    ") + f"\n    ({took:.1f} s)")
        assert took < 150, took
        return done

    local = bench.work / "dense-local.yml"
    refused(out="s3://no-such-bucket/x", recipe=local, says=["no-such-bucket"])
    refused(AWS_SECRET_ACCESS_KEY="WRONG", says=["denied", "403"])
    refused(AWS_ALLOW_HTTP="false", says=["AWS_ALLOW_HTTP"])
    refused(AWS_ENDPOINT_URL="http://127.0.0.1:9", says=["cannot be reached"])
    missing = bench.work / "missing.yml"
    missing.write_text(DENSE.format(at="s3://models/").replace("models/a", "models/bases"))
    refused(recipe=missing, says=["s3://models/bases", "did you mean"])
    refused(out="s3://out", recipe=local, says=["name"])
    # An unfinished build of another plan.
    process = subprocess.Popen(bench.command("merge", dense, "s3://out/x", *SHARDS), env=bench.environment(), stderr=subprocess.DEVNULL)
    while not list((bench.data / "out").glob("x/*.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    refused("--out-shard-size", "30MB", says=["unfinished", "--force"])
    bench.run("merge", dense, "s3://out/x", *SHARDS, "--force", check=True)
    bench.empty_out()
    # Something that moerge did not make.
    bench.client.put_object(Bucket="out", Key="x/notes.txt", Body=b"mine")
    refused(says=["x"])
    refused("--force", says=["moerge did not make"])
    assert (bench.data / "out/x/notes.txt").read_bytes() == b"mine"
    bench.empty_out()


TESTS = {name.removeprefix("test_"): test for name, test in list(globals().items()) if name.startswith("test_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path)
    parser.add_argument("server", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(args, pathlib.Path(work))
        try:
            for name in args.only:
                start = time.monotonic()
                print(f"{name}: {TESTS[name].__doc__}", flush=True)
                try:
                    TESTS[name](bench)
                    print(f"  ok, {time.monotonic() - start:.0f} s", flush=True)
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    failed.append(name)
                    print(f"  FAILED: {error}", flush=True)
                    bench.empty_out()
        finally:
            bench.server.process.kill()
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
