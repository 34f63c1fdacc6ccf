"""Merges from and to emulators of Azure Blob Storage and Google Cloud Storage. Run by hand; see README.md.

    emulators.py MOERGE_BINARY --azurite AZURITE_BLOB --fake-gcs FAKE_GCS_SERVER [--kills 6] [--seed 0]

Needs numpy and boto3 (for objects.py), and azure-storage-blob for Azurite. Every output is compared byte by byte with that
of a local merge of the same recipe. fake-gcs-server does not know the requests by which objects are written, so nothing is
written to it.
Exit code 0: all tests passed; 1: one failed.
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from cluster import write_model
from objects import DENSE, MOE, SHARDS, TOKENIZER, free_port, read_all, wait_for

# Every Azurite has this account: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azure:
    """Azurite, an emulator of Azure Blob Storage."""

    scheme, is_written = "az", True

    def __init__(self, command, folder):
        from azure.storage.blob import BlobServiceClient

        port = free_port()
        self.process = subprocess.Popen(
            [command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent", "--skipApiVersionCheck"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port)
        self.environment = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}
        self.refused = [({"AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}, "403")]
        self.client = BlobServiceClient(f"http://127.0.0.1:{port}/{ACCOUNT}", credential=KEY)
        for name in ["models", "out"]:
            self.client.create_container(name)

    def upload(self, key, content):
        self.client.get_blob_client("models", key).upload_blob(content, overwrite=True)

    def output(self):
        container = self.client.get_container_client("out")
        return {blob.name: container.download_blob(blob.name).readall() for blob in container.list_blobs()}

    def empty(self):
        container = self.client.get_container_client("out")
        for blob in list(container.list_blobs()):
            container.delete_blob(blob.name)


class Google:
    """fake-gcs-server, an emulator of Google Cloud Storage."""

    scheme, is_written = "gs", False

    def __init__(self, command, folder):
        port = free_port()
        (folder / "models").mkdir(parents=True)
        host = f"127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [command, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", host, "-backend", "memory",
             "-data", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port)
        self.url = f"http://{host}"
        self.environment = {"GOOGLE_BASE_URL": self.url, "GOOGLE_SKIP_SIGNATURE": "true", "GOOGLE_ALLOW_HTTP": "true"}

    def upload(self, key, content):
        url = f"{self.url}/upload/storage/v1/b/models/o?uploadType=media&name={urllib.parse.quote(key, safe='')}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST", data=content)) as answer:
            answer.read()


class Bench:
    """A store with models, and what merges of them are."""

    def __init__(self, args, store, work):
        self.moerge, self.store, self.args, self.work, self.expected = args.moerge, store, args, work, {}
        for seed, name in enumerate(["base", "a", "b"]):
            write_model(work / name, seed, TOKENIZER)
            for file in sorted((work / name).iterdir()):
                store.upload(f"{name}/{file.name}", file.read_bytes())
        for kind, recipe in [("moe", MOE), ("dense", DENSE)]:
            (work / f"{kind}.yml").write_text(recipe.format(at=f"{store.scheme}://models/"))
            local = work / f"{kind}-local.yml"
            local.write_text(recipe.format(at=""))
            self.run("merge", work / f"{kind}.yml", work / "expected" / kind, *SHARDS)
            self.run("merge", local, work / "plain" / kind, *SHARDS)
            self.expected[kind], plain = read_all(work / "expected" / kind), read_all(work / "plain" / kind)
            for name, content in self.expected[kind].items():
                if name.endswith(".safetensors"):
                    assert plain[name] == content, f"{kind}: {name} read from the store is not that read locally"

    def command(self, *words):
        return [str(self.moerge), *(str(word) for word in words)]

    def environment(self, **more):
        return {**os.environ, **self.store.environment, **more}

    def run(self, *words, code=0, **more):
        done = subprocess.run(self.command(*words), env=self.environment(**more), capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def merge(self, kind):
        return ["merge", self.work / f"{kind}.yml", f"{self.store.scheme}://out/{kind}", *SHARDS]

    def check_output(self, kind):
        expected = {f"{kind}/{name}": content for name, content in self.expected[kind].items()}
        found = self.store.output()
        assert sorted(found) == sorted(expected), f"{sorted(found)} instead of {sorted(expected)}"
        for name, content in expected.items():
            assert found[name] == content, f"{name} differs"


def test_plain(bench, kind):
    """Merges; what is there is recognised, checked, read and replaced."""
    bench.run(*bench.merge(kind))
    bench.check_output(kind)
    out = f"{bench.store.scheme}://out/{kind}"
    assert "already built" in bench.run(*bench.merge(kind)).stdout
    bench.run("verify", out)
    bench.run("inspect", out)
    bench.run("diff", out, bench.work / "expected" / kind)
    other = ["merge", bench.work / f"{kind}.yml", out, "--out-shard-size", "5MB"]
    assert "--force" in bench.run(*other, code=1).stderr
    bench.check_output(kind)
    bench.run(*other, "--force")
    bench.run(*bench.merge(kind), "--force")
    bench.check_output(kind)


def test_parts(bench, kind):
    """Several processes write parts of one output at once."""
    if kind == "moe":
        bench.run(*bench.merge(kind), "--routers-only")
    started = [subprocess.Popen(bench.command(*bench.merge(kind), "--part", f"{part}/3"), env=bench.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for part in [1, 2, 3, 2]]
    for process in started:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert f"{kind}/config.json" not in bench.store.output()
    bench.run(*bench.merge(kind), "--finish")
    bench.check_output(kind)


def test_kills(bench, kind):
    """The process is killed at random moments; the same command goes on, and nobody can read half."""
    picks, resumed, start = random.Random(bench.args.seed), 0, time.monotonic()
    bench.run(*bench.merge(kind))
    whole = time.monotonic() - start
    bench.store.empty()
    for _ in range(bench.args.kills):
        process = subprocess.Popen(bench.command(*bench.merge(kind)), env=bench.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(picks.uniform(0.0, 1.0) * whole)
        process.kill()
        process.wait()
        there = bench.store.output()
        resumed += any(name.endswith(".safetensors") for name in there)
        if f"{kind}/config.json" in there:
            # It may have been killed while it cleaned up.
            bench.run(*bench.merge(kind))
            bench.check_output(kind)
            bench.store.empty()
    bench.run(*bench.merge(kind))
    bench.check_output(kind)
    print(f"    {kind}: shards were there after {resumed} of {bench.args.kills} kills")


def test_refusals(bench, kind):
    """What cannot work is refused with a reason and a hint."""
    scheme, local = bench.store.scheme, bench.work / f"{kind}-local.yml"

    def refused(*words, says, **more):
        message = bench.run("merge", *words, code=1, **more).stderr.strip()
        print("    " + message.replace("\n", "\n    "))
        assert "hint:" in message and all(text in message for text in says), message

    refused(local, f"{scheme}://no-such-bucket/x", says=["no-such-bucket"])
    missing = bench.work / "missing.yml"
    missing.write_text(DENSE.format(at=f"{scheme}://models/").replace("models/a", "models/bases"))
    refused(missing, f"{scheme}://out/x", says=[f"{scheme}://models/bases", "did you mean"])
    for environment, says in bench.store.refused:
        refused(local, f"{scheme}://out/x", says=[says], **environment)


WRITING = [test_plain, test_parts, test_kills, test_refusals]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path)
    parser.add_argument("--azurite", type=pathlib.Path)
    parser.add_argument("--fake-gcs", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.azurite or args.fake_gcs):
        parser.error("name an emulator: --azurite or --fake-gcs")
    failed = False
    for kind_of_store, command in [(Azure, args.azurite), (Google, args.fake_gcs)]:
        if command is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            store = kind_of_store(command.resolve(), work / "store")
            try:
                bench = Bench(args, store, work)
                print(f"{store.scheme}: both recipes read as from a disk", flush=True)
                for test in WRITING if store.is_written else []:
                    for kind in ["moe", "dense"]:
                        print(f"{store.scheme} {kind} {test.__name__.removeprefix('test_')}: {test.__doc__}", flush=True)
                        try:
                            test(bench, kind)
                            print("  ok", flush=True)
                        except (AssertionError, subprocess.TimeoutExpired) as error:
                            failed = True
                            print(f"  FAILED: {error}", flush=True)
                        store.empty()
            finally:
                store.process.kill()
    sys.exit(failed)


if __name__ == "__main__":
    main()
