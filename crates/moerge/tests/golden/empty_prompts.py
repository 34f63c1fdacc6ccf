"""What mergekit-moe makes of empty prompts: the gates of `empty_prompts.yml` over golden llama.

    HF_HUB_OFFLINE=1 VENV/bin/python empty_prompts.py       # the environment of make.py

An empty prompt is the bos token alone. `empty_prompts.safetensors` holds the gates that mergekit-moe writes (`hidden`,
`cheap_embed`), and the same in float32 by transformers (`f32_...`).
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import yaml
from safetensors.torch import load_file, save_file

import make

FOLDER = make.HERE / "llama"
EXPERTS = [
    dict(positive_prompts=[""]),
    dict(positive_prompts=["sort the list"]),
    dict(positive_prompts=["", "the king"], negative_prompts=["the night is cold"]),
]


def main():
    made = dict(base_model="llama", gate_mode="hidden", dtype="float32",
                experts=[dict(source_model="llama", **expert) for expert in EXPERTS])
    make.write_recipe(make.HERE, "empty_prompts.yml", made, "Empty prompts; for `cheap_embed` with that word replaced.")
    saved = {}
    for mode in ("hidden", "cheap_embed"):
        made["gate_mode"] = mode
        with tempfile.TemporaryDirectory() as tmp:
            config, out = pathlib.Path(tmp, "moe.yml"), pathlib.Path(tmp, "out")
            config.write_text(yaml.safe_dump(made))
            command = [sys.executable, "-c", "from mergekit.scripts.moe import main; main()", str(config), str(out), "--quiet",
                       "--num-threads", "1", "--i-understand-this-is-not-useful-without-training"]
            subprocess.run(command, cwd=make.HERE, check=True)
            tensors = load_file(out / "model.safetensors")
        gates = [tensors[name] for name in sorted(tensors) if name.endswith(".gate.weight")]
        saved[mode] = torch.stack(gates).float().contiguous()
        saved[f"f32_{mode}"] = make.rows(FOLDER, made)[0]
        cosine = torch.nn.functional.cosine_similarity(saved[mode], saved[f"f32_{mode}"], dim=-1)
        print(f"{mode}: smallest cosine to f32 {cosine.min().item():.6f}")
        assert cosine.min() >= 0.999
    save_file(saved, make.HERE / "empty_prompts.safetensors", metadata={"mergekit": "0.1.5"})


main()
