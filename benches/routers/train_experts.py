"""Trains experts of a small model on texts, for compare.py: near ones, or ones whose attention is trained, too.

    pip install torch transformers
    python benches/routers/train_experts.py BASE OUT NAME=TEXT... [--all] [--steps 32]

Writes OUT/NAME for each text: BASE after some steps of AdamW, each on 1,024 tokens of TEXT in windows of 256. Trained are
the weights of the FFN, or with --all everything but the embeddings.
"""
import argparse, pathlib, random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW, BATCH = 256, 4
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train(args, name, text):
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).to(DEVICE)
    for key, parameter in model.named_parameters():
        parameter.requires_grad = ".mlp." in key or args.all and "embed_tokens" not in key and "lm_head" not in key
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.rate, weight_decay=0.0)
    ids = tokenizer(pathlib.Path(text).read_text(), add_special_tokens=False)["input_ids"]
    draw = random.Random(args.seed)
    for step in range(args.steps):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 5, 2 * (args.steps - step) / args.steps)
        starts = [draw.randrange(len(ids) - WINDOW) for _ in range(BATCH)]
        batch = torch.tensor([ids[start : start + WINDOW] for start in starts], device=DEVICE)
        loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        print(f"{name}: step {step + 1} of {args.steps}, loss {loss.item():.3f}", flush=True)
    model.to("cpu", torch.bfloat16).save_pretrained(args.out / name)
    tokenizer.save_pretrained(args.out / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("texts", nargs="+", metavar="NAME=TEXT")
    parser.add_argument("--all", action="store_true", help="train attention and norms, too")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4, help="the largest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for pair in args.texts:
        train(args, *pair.split("=", 1))


main()
