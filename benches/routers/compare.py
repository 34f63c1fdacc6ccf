"""Compare routers on text that they were not fitted to: single subjects, and documents that change their subject.

    python benches/routers/compare.py MOERGE BASE TEXTS NAME=EXPERT... [--with-base] [--seeds 0 1 2] [--k 1] [--only calibrated]

BASE and EXPERT are model folders, an expert optionally `folder+adapter`. TEXTS/NAME/train.txt is what routers are fitted
to, TEXTS/NAME/valid.txt what they are measured on. Every method makes the same MoE and only its gates differ, so "right
experts" (every token sent to the expert of its text) is the same for all of them. Ridge regression is that of DUME
(arXiv 2603.29765): one-hot targets, the inputs of each layer's FFN when an expert reads its own text alone, here without
the bias that a router does not have. It needs torch and transformers; without them it is left out. --torch needs them, too.

Prints a row per method: perplexity of single subjects in windows of 256 tokens and in long ones (geometric mean over the
texts), and of mixed documents, each with its distance from the specialists or the right experts; mean and standard error
over the seeds.
"""
import argparse, json, math, pathlib, shutil, statistics, subprocess, sys, tempfile

KEYWORDS = {
    "code": ["code", "python", "javascript", "programming", "algorithm"],
    "story": ["storywriting", "write", "scene", "story", "character"],
    "math": ["reason", "math", "mathematics", "solve", "count"],
}
METHODS = {
    "random": "gate_mode: random",
    "hidden, keywords": "gate_mode: hidden",
    "class means": "gate_mode: router_input\nsplice_texts: false",
    "ridge (DUME)": "gate_mode: random",
    "calibrated, not spliced": "gate_mode: calibrated\nsplice_texts: false",
    "calibrated": "gate_mode: calibrated",
    "self_calibrated, not spliced": "gate_mode: self_calibrated\nsplice_texts: false",
    "self_calibrated": "gate_mode: self_calibrated",
}
# Nothing in these depends on the seed.
FIXED = {"hidden, keywords", "class means", "ridge (DUME)", "calibrated, not spliced"}
LONG = 8192


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


class Bench:
    def __init__(self, args):
        self.args, self.work = args, pathlib.Path(tempfile.mkdtemp(prefix="routers-", dir=args.work))
        self.experts = dict(pair.split("=", 1) for pair in args.experts)
        self.valid = [args.texts / name / "valid.txt" for name in self.experts]

    def recipe(self, method, seed):
        settings = METHODS[method]
        lines = [f"base_model: {self.args.base}", settings, f"random_seed: {seed}", f"experts_per_token: {self.args.k}"]
        lines += self.args.setting + ["experts:"]
        if self.args.with_base:
            lines += [f"  - source_model: {self.args.base}"]
            if "self" not in method:
                lines += ['    positive_prompts: ["chat", "assistant", "tell me", "explain", "I want"]']
        for name, model in self.experts.items():
            lines += [f"  - source_model: {model}"]
            if method.startswith("hidden"):
                lines += [f"    positive_prompts: {json.dumps(KEYWORDS.get(name, [name]))}"]
            elif "self" not in method:
                lines += [f"    positive_prompts_file: {self.args.texts / name / 'train.txt'}"]
        path = self.work / "moe.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def evaluate(self, models, context, texts, mixed=False):
        text = ["--text", *texts, "--context", context, "--stride", context, "--json"]
        more = ["--mixed", "--mixed-documents", self.args.documents] if mixed else []
        return json.loads(run(self.args.moerge, "eval", *models, *text, *more))["models"]

    def specialists(self, context):
        """The geometric mean over the texts, each read by its own expert."""
        if self.args.torch:
            import measure

            texts = measure.tokens(self.args.base, self.valid)
            models = (measure.Dense(self.dense(name)) for name in self.experts)
            return geometric_mean(model.perplexity(ids, context) for model, ids in zip(models, texts))
        own = [self.evaluate([model], context, [text])[0] for model, text in zip(self.experts.values(), self.valid)]
        return geometric_mean(score["texts"][0]["perplexity"]["value"] for score in own)

    def dense(self, name):
        """The folder of an expert, its adapter merged."""
        out = self.work / f"dense-{name}"
        if not out.exists():
            recipe = self.work / "dense.yml"
            recipe.write_text(f"merge_method: passthrough\nmodels: [{{model: {self.experts[name]}}}]\ndtype: bfloat16\n")
            run(self.args.moerge, "merge", recipe, out)
        return out

    def make(self, method, seed):
        """The folder of the MoE."""
        out = self.work / f"{method}-{seed}"
        run(self.args.moerge, "merge", self.recipe(method, seed), out)
        if method.startswith("ridge"):
            ridge(self, out)
        print(f"{method}, seed {seed}: made", file=sys.stderr, flush=True)
        return out

    def measure(self, outs):
        """Of each MoE its perplexities: single subjects in short windows and in long ones, mixed documents; and on these,
        that of the right experts and of each document's best expert. They are all measured at once, which reads the
        documents with each expert once."""
        if self.args.torch:
            import measure

            texts = measure.tokens(self.args.base, self.valid)
            moe, mixed = measure.Moe(outs[0]), measure.Mixed(texts, self.args.documents)
            known = mixed.without_routers(moe)
            for out in outs:
                moe.route(out)
                single = [geometric_mean(moe.perplexity(ids, context) for ids in texts) for context in (256, LONG)]
                yield *single, math.exp(moe.losses(mixed.documents).mean()), *known
            return
        mean = lambda score: geometric_mean(text["perplexity"]["value"] for text in score["texts"])
        short, long = self.evaluate(outs, 256, self.valid, mixed=True), self.evaluate(outs, LONG, self.valid)
        for s, l in zip(short, long):
            mixed, experts = s["mixed"], s["mixed"]["experts"]
            values = [mixed["perplexity"], experts["forced"], experts["best_single"]]
            yield mean(s), mean(l), *(value["value"] for value in values)


def ridge(bench, out):
    """Replaces the gates of the MoE in `out`."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(bench.args.base)
    moments, targets = {}, {}
    for index, name in enumerate(bench.experts):
        network = AutoModelForCausalLM.from_pretrained(bench.dense(name), dtype=torch.float32).to(device)
        inputs = {}
        for layer, block in enumerate(network.model.layers):
            keep = lambda _m, _i, output, layer=layer: inputs.__setitem__(layer, output.detach())
            block.post_attention_layernorm.register_forward_hook(keep)
        ids = tokenizer((bench.args.texts / name / "train.txt").read_text(), add_special_tokens=False)["input_ids"]
        windows = [ids[i : i + 511] for i in range(0, len(ids) - 511, 511)]
        step = max(1, len(windows) // 16)
        for window in windows[::step][:16]:
            with torch.no_grad():
                network.model(torch.tensor([window], device=device))
            for layer, u in inputs.items():
                u = u[0].double().cpu()
                moments[layer] = moments.get(layer, 0) + u.T @ u
                sums = targets.setdefault(layer, torch.zeros(len(bench.experts), u.shape[1], dtype=torch.float64))
                sums[index] += u.sum(0)
    offset = 1 if bench.args.with_base else 0
    for file in out.glob("*.safetensors"):
        tensors = load_file(file)
        for tensor in [t for t in tensors if t.endswith(".gate.weight")]:
            layer = int(tensor.split(".")[2])
            moment = moments[layer]
            size = bench.args.ridge * moment.diagonal().mean()
            rows = torch.linalg.solve(moment + size * torch.eye(len(moment), dtype=torch.float64), targets[layer].T).T
            gate = torch.zeros_like(tensors[tensor], dtype=torch.float64)
            gate[offset:] = rows
            tensors[tensor] = gate.to(tensors[tensor].dtype).contiguous()
        save_file(tensors, file, metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge")
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("experts", nargs="+", metavar="NAME=EXPERT")
    parser.add_argument("--with-base", action="store_true", help="the base is an expert, too")
    parser.add_argument("--k", type=int, default=1, help="experts per token")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--documents", type=int, default=120, help="mixed documents")
    parser.add_argument("--ridge", type=float, default=1e-3, help="the penalty, times the mean square of the inputs")
    parser.add_argument("--setting", action="append", default=[], help="another line of the recipe")
    parser.add_argument("--only", nargs="+", help="methods by name")
    parser.add_argument("--torch", action="store_true", help="measure with PyTorch (measure.py), on a GPU if there is one")
    parser.add_argument("--work", default=None, help="where models are written")
    args = parser.parse_args()
    bench = Bench(args)
    short, long = bench.specialists(256), bench.specialists(LONG)
    print(f"specialists: {short:.3f} in windows of 256, {long:.3f} of {LONG}", flush=True)
    outs = {}
    for method in args.only or METHODS:
        try:
            outs[method] = [bench.make(method, seed) for seed in (args.seeds[:1] if method in FIXED else args.seeds)]
        except ImportError as error:
            print(f"{method:30} left out: {error}")
    if not outs:
        return
    scores = bench.measure([out for of_method in outs.values() for out in of_method])
    for method, of_method in outs.items():
        rows = [next(scores) for _ in of_method]
        cells = []
        for column, best in enumerate([short, long, None]):
            values = [row[column] for row in rows]
            against = [value / (best or row[3]) - 1 for value, row in zip(values, rows)]
            error = statistics.stdev(against) / math.sqrt(len(against)) if len(against) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):8.3f} {100 * statistics.fmean(against):+6.2f} ±{100 * error:.2f} %")
        right, best_single = rows[0][3:]
        print(f"{method:30} {' | '.join(cells)} | right experts {right:.3f}, best single {best_single:.3f}", flush=True)
    shutil.rmtree(bench.work)


main()
