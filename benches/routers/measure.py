"""Measures MoEs of Llama's architecture with PyTorch, on a GPU if there is one: what `moerge eval --mixed` measures.

The experts' weights are read once for all MoEs that differ only in their routers. In f32; every expert reads every token,
and the router's weights are 0 for those that it does not choose.
"""
import json, math, random

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEGMENT = 85


class Experts(torch.nn.Module):
    """The FFN of a layer. `forced` is the expert of every token, or None for the router's choice."""

    def __init__(self, weights, prefix, count, k):
        super().__init__()
        matrices = lambda name: [weights[f"{prefix}experts.{expert}.{name}.weight"] for expert in range(count)]
        self.gates, self.downs, self.ups = matrices("w1"), matrices("w2"), matrices("w3")
        self.router, self.k, self.forced = None, k, None

    def forward(self, x):
        if self.forced is None:
            top, chosen = (x @ self.router.T).softmax(-1).topk(self.k)
            shares = torch.zeros(*x.shape[:-1], len(self.gates), device=x.device)
            shares.scatter_(-1, chosen, top / top.sum(-1, keepdim=True))
        else:
            shares = torch.nn.functional.one_hot(self.forced, len(self.gates)).float()
        y = torch.zeros_like(x)
        for expert, (gate, down, up) in enumerate(zip(self.gates, self.downs, self.ups)):
            own = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
            y += shares[..., expert, None] * own
        return y


def weights_of(folder, part=""):
    """The tensors of a model with `part` in their names."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt", device=DEVICE) as weights:
            tensors |= {name: weights.get_tensor(name).float() for name in weights.keys() if part in name}
    return tensors


class Model:
    @torch.no_grad()
    def losses(self, sequences, forced=None):
        """`-ln p` of every token but the first of each sequence, all as long."""
        losses = []
        step = max(1, 16384 // sequences.shape[1])
        for first in range(0, len(sequences), step):
            now = sequences[first : first + step].to(DEVICE)
            for block in self.model.model.layers:
                block.mlp.forced = None if forced is None else forced[first : first + step].to(DEVICE)
            for hidden, ids in zip(self.model.model(now).last_hidden_state, now):
                logits = self.model.lm_head(hidden[:-1])
                losses.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
        return torch.stack(losses).double().cpu()

    def perplexity(self, ids, context):
        """In windows that do not overlap."""
        whole = len(ids) // context * context
        groups = [torch.tensor(ids[:whole]).reshape(-1, context)] if whole else []
        groups += [torch.tensor([ids[whole:]])] if len(ids) > whole + 1 else []
        return math.exp(torch.cat([self.losses(group).flatten() for group in groups]).mean())


class Dense(Model):
    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval()


class Moe(Model):
    """The MoE in `folder`; `route` takes the routers of another one."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        weights = weights_of(folder)
        known = {key: config[key] for key in LlamaConfig().to_dict() if key in config and "torch" not in key}
        known |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
        self.model = LlamaForCausalLM(LlamaConfig(**known)).to(DEVICE).eval()
        for layer, block in enumerate(self.model.model.layers):
            prefix = f"model.layers.{layer}.block_sparse_moe."
            block.mlp = Experts(weights, prefix, config["num_local_experts"], config["num_experts_per_tok"])
        own = {name: tensor for name, tensor in weights.items() if ".block_sparse_moe." not in name}
        wrong = self.model.load_state_dict(own, strict=False)
        assert not wrong.unexpected_keys and set(wrong.missing_keys) <= {"lm_head.weight"}, wrong
        self.experts = config["num_local_experts"]
        self.route(folder)

    def route(self, folder):
        weights = weights_of(folder, ".gate.weight")
        for layer, block in enumerate(self.model.model.layers):
            block.mlp.router = weights[f"model.layers.{layer}.block_sparse_moe.gate.weight"]


class Mixed:
    """Documents with a segment of each text, in an order of its own, and the text of every token."""

    def __init__(self, texts, count):
        count = min([count, *(len(ids) // SEGMENT for ids in texts)])
        draw, documents, subjects = random.Random(0), [], []
        for document in range(count):
            order = draw.sample(range(len(texts)), len(texts))
            at = slice(document * SEGMENT, (document + 1) * SEGMENT)
            documents.append([token for text in order for token in texts[text][at]])
            subjects.append([text for text in order for _ in range(SEGMENT)])
        self.documents, self.subjects, self.texts = torch.tensor(documents), torch.tensor(subjects), len(texts)

    def without_routers(self, moe):
        """(right experts, best single expert of each document)"""
        constant = lambda expert: torch.full_like(self.documents, expert)
        alone = torch.stack([moe.losses(self.documents, constant(expert)) for expert in range(moe.experts)])
        own = self.subjects[:, 1:]
        experts = torch.stack([alone[:, own == text].sum(1).argmin() for text in range(self.texts)])
        right = moe.losses(self.documents, experts[self.subjects])
        return math.exp(right.mean()), math.exp(alone.mean(2).min(0).values.mean())


def tokens(base, files):
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [tokenizer(file.read_text(), add_special_tokens=False)["input_ids"] for file in files]
