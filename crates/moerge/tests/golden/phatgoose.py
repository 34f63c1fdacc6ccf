#!/usr/bin/env python3
"""What PyTorch says of the gates of `gate_mode: phatgoose` on the golden models: `<family>/phatgoose.safetensors`.

    python phatgoose.py [family ...]

The base is the golden model, the expert is the same model with its FFNs in reverse order of layers. Saved are the tokens
and which count, the loss and its gradient at gates that are not 0, and the gates after ten steps from 0."""
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
FAMILIES = ["llama", "mistral", "phi3", "qwen2", "qwen3"]
STEPS, RATE, WARM_UP = 10, 5e-3, 6


class Blend(torch.nn.Module):
    """base(u) + sigmoid(v . u) (expert(u) - base(u))"""

    def __init__(self, base, expert, hidden):
        super().__init__()
        self.base, self.expert = base, expert
        self.gate = torch.nn.Parameter(torch.zeros(hidden))

    def forward(self, u):
        base = self.base(u)
        return base + torch.sigmoid(u @ self.gate)[..., None] * (self.expert(u) - base)


def loss_of(model, sequences, counts):
    """Mean cross entropy of the tokens that come after one that counts."""
    losses = []
    for sequence, count in zip(sequences, counts):
        logits = model(input_ids=sequence[None], use_cache=False).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, sequence[1:], reduction="none")[count[:-1]])
    return torch.cat(losses).mean()


def make(name):
    folder = HERE / name
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval().requires_grad_(False)
    layers, hidden = model.model.layers, model.config.hidden_size
    ffns = [layer.mlp for layer in layers]
    for layer, base, expert in zip(layers, ffns, reversed(ffns)):
        layer.mlp = Blend(base, expert, hidden)
    gates = [layer.mlp.gate for layer in layers]

    ids = load_file(folder / "expected.safetensors")["input_ids"].flatten()
    sequences = [ids, ids[5:17].flip(0), ids[2:9]]
    counts = [torch.arange(len(s)) % 5 != 4 for s in sequences]

    with torch.no_grad():
        for index, gate in enumerate(gates):
            gate.copy_(0.3 * torch.sin(31.0 * index + 7.0 * torch.arange(hidden, dtype=torch.float64)).float())
    at = torch.stack([g.detach().clone() for g in gates])
    loss = loss_of(model, sequences, counts)
    loss.backward()
    gradient = torch.stack([g.grad.clone() for g in gates])

    with torch.no_grad():
        [gate.zero_() for gate in gates]
    optimiser = torch.optim.AdamW(gates, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / WARM_UP))
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss_of(model, sequences, counts).backward()
        optimiser.step()
        schedule.step()
    trained = torch.stack([g.detach() for g in gates])
    save_file({
        "tokens": torch.cat(sequences), "lengths": torch.tensor([len(s) for s in sequences]),
        "counts": torch.cat(counts).long(), "gates": at, "loss": loss.detach().reshape(1), "gradient": gradient,
        "trained": trained,
    }, folder / "phatgoose.safetensors", metadata={"torch": torch.__version__, "transformers": transformers.__version__})
    (folder / "phatgoose.safetensors").chmod(0o644)
    print(f"{name}: loss {loss.item():.6f}; largest gradient {gradient.abs().max().item():.2e}; "
          f"largest gate {trained.abs().max().item():.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in sys.argv[1:] or FAMILIES:
        make(family)
