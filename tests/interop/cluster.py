"""A merge in parts under a scheduler, whose tasks are killed at random. Run by hand; see README.md.

    cluster.py slurm|ray MOERGE_BINARY [--parts 6] [--kills 12]

Merges an MoE and a dense model with docs/cluster/slurm.sh or ray_merge.py, kills parts while they run, and compares the
output's bytes with those of one whole run. For Slurm (Debian: apt install slurm-wlm) it starts slurmctld and slurmd with
several slots on this machine, as root; for Ray (pip install ray) the script starts a cluster of its own.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "docs/cluster"
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 768, "intermediate_size": 2048,
    "num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 4, "vocab_size": 1024, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "hidden_act": "silu",
}
MOE = """base_model: base
gate_mode: hidden
dtype: bfloat16
experts:
  - {source_model: base, positive_prompts: ["a quiet day"]}
  - {source_model: a, positive_prompts: ["def f(x):"], noise_scale: 0.01}
  - {source_model: b, positive_prompts: ["once upon a time"], noise_scale: 0.01}
"""
DENSE = """merge_method: dare_ties
base_model: base
dtype: bfloat16
models:
  - {model: a, parameters: {weight: 0.5, density: 0.5}}
  - {model: b, parameters: {weight: 0.5, density: 0.5}}
"""


def write_model(folder, seed, tokenizer):
    """Random weights around those of seed 0, and the tokenizer of examples/tiny."""
    folder.mkdir()
    h, f, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["hidden_size"] // 3
    shapes = {"model.embed_tokens.weight": (CONFIG["vocab_size"], h), "lm_head.weight": (CONFIG["vocab_size"], h), "model.norm.weight": (h,)}
    for layer in range(CONFIG["num_hidden_layers"]):
        own = {
            "input_layernorm": (h,), "post_attention_layernorm": (h,), "self_attn.q_proj": (h, h),
            "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h), "self_attn.o_proj": (h, h), "mlp.gate_proj": (f, h),
            "mlp.up_proj": (f, h), "mlp.down_proj": (h, f),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    base, other = numpy.random.default_rng(0), numpy.random.default_rng(seed)
    header, data = {}, bytearray()
    for name, shape in shapes.items():
        values = base.standard_normal(shape, "float32") * 0.05 + other.standard_normal(shape, "float32") * 0.01
        bits = (values + (1.0 if "norm" in name else 0.0)).astype("float32").view("uint32")
        encoded = (bits >> 16).astype("uint16").tobytes()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(encoded)]}
        data += encoded
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for file in tokenizer.glob("tokenizer*.json"):
        shutil.copy(file, folder)


class Slurm:
    """A controller and one node with several slots on this machine."""

    def __init__(self, folder, slots):
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname()
        config = folder / "slurm.conf"
        config.write_text(f"""ClusterName=moerge
SlurmctldHost={host}
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=1
NodeName={host} CPUs={slots} Boards=1 Sockets={slots} CoresPerSocket=1 ThreadsPerCore=1 RealMemory=16000
PartitionName=all Nodes=ALL Default=YES State=UP
""")
        self.environment = {**os.environ, "SLURM_CONF": str(config)}
        self.running = [
            subprocess.Popen([name, "-D"], env=self.environment, stderr=subprocess.DEVNULL)
            for name in ("slurmctld", "slurmd")
        ]
        for _ in range(60):
            time.sleep(1)
            if "idle" in self.output("sinfo", "--noheader", "--format=%t"):
                return
        raise SystemExit(f"slurm did not start:\n{(folder / 'slurmctld.log').read_text()}")

    def output(self, *command, **options):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, **options).stdout

    def tasks(self):
        """(job, task, state) of all that is not over."""
        lines = self.output("squeue", "--noheader", "--array", "--format=%F %K %T %j").splitlines()
        return [line.split() for line in lines]

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait()


    def merge(self, folder, recipe, out, parts, flags, kills):
        """Submits the script, and requeues running parts. Returns the number of kills."""
        script = (SCRIPTS / "slurm.sh").read_text()
        (folder / "submit.sh").write_text(without_routers(script, "routers=") if recipe == "dense.yml" else script)
        self.output("bash", "submit.sh", recipe, out, str(parts), *flags, cwd=folder, check=True)
        killed, requeued = 0, set()
        while left := self.tasks():
            running = [(job, task) for job, task, state, name in left if state == "RUNNING" and name == "parts"]
            if running and killed < kills:
                job, task = random.choice(running)
                self.output("scontrol", "requeue", f"{job}_{task}")
                requeued.add((job, task))
                killed += 1
            for job, task, state, _ in left:
                # It would wait for two minutes.
                if state == "PENDING" and (job, task) in requeued:
                    self.output("scontrol", "update", f"JobId={job}_{task}", "StartTime=now")
                    requeued.discard((job, task))
            time.sleep(random.random() * 0.3)
        return killed


class Ray:
    """The script, which starts a cluster."""

    def merge(self, folder, recipe, out, parts, flags, kills):
        """Runs the script, and kills running parts. Returns the number of kills."""
        script = (SCRIPTS / "ray_merge.py").read_text()
        if recipe == "dense.yml":
            script = without_routers(script, 'ray.get(merge.remote("--routers-only"))')
        # Processes that are killed count as failures of their tasks.
        (folder / "submit.py").write_text(script.replace("max_retries=5", f"max_retries={kills}"))
        command = [sys.executable, "submit.py", recipe, out, str(parts), *flags]
        with open(folder / "ray.log", "w") as log:
            script, killed = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log), 0
            while script.poll() is None:
                found = subprocess.run(["pgrep", "-f", f"^moerge merge {recipe} .* --part"], capture_output=True, text=True)
                if (running := found.stdout.split()) and killed < kills:
                    os.kill(int(random.choice(running)), signal.SIGKILL)
                    killed += 1
                time.sleep(random.random() * 0.1)
        return killed

    def stop(self):
        pass


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scheduler", choices=["slurm", "ray"])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--parts", type=int, default=6)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="moerge-cluster-"))
    (folder / "bin").mkdir()
    shutil.copy(arguments.binary, folder / "bin/moerge")
    os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    for seed, name in enumerate(["base", "a", "b"], 1):
        write_model(folder / name, seed, HERE.parents[1] / "examples/tiny/base")
    (folder / "moe.yml").write_text(MOE)
    (folder / "dense.yml").write_text(DENSE)
    scheduler = Slurm(folder, arguments.parts) if arguments.scheduler == "slurm" else Ray()
    failures = 0
    try:
        for recipe in ("moe.yml", "dense.yml"):
            out, flags = f"{recipe[:-4]}-out", ["--out-shard-size", "8MB", "-j", "1"]
            subprocess.run(["moerge", "merge", recipe, f"whole/{out}", "--quiet", *flags], cwd=folder, check=True)
            kills = scheduler.merge(folder, recipe, f"parts/{out}", arguments.parts, flags, arguments.kills)
            merged = folder / "parts" / out
            same = merged.is_dir() and contents(merged) == contents(folder / "whole" / out)
            failures += not same
            print(f"{recipe}: {arguments.parts} parts, {kills} kills: {'equal' if same else 'DIFFERENT, see ' + str(folder)}")
    finally:
        scheduler.stop()
    if not failures:
        shutil.rmtree(folder)
    return failures


def without_routers(script, step):
    """The script as it says itself for a dense merge: without that step, and what waits for it."""
    lines = [line for line in script.splitlines() if not line.startswith(step)]
    return "\n".join(lines).replace('--dependency="afterok:$routers" ', "") + "\n"


if __name__ == "__main__":
    sys.exit(main())
