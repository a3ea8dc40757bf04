"""How fast training and sampling are beside be_great, the package of GReaT's authors, on the same machine, rows and shape of model: writes results/speed.csv.

    pip install -e '.[bench]' && python benchmarks/speed.py [--quick] [--device cpu] [--repeats 3]

Both get a randomly initialised model of distilgpt2's shape with GPT-2's vocabulary (the folder that IMBLLM_GPT2 names, or shared/tokenizers/gpt2 beside the project). Each measurement is a process of its own, ours and the peer's in turns; a figure is
the median over them, a ratio the median of the ratios of neighbours.
Training: full rows per second of the german table (of `make_income` where that cannot be had), in batches of 32, by the median time between two updates. Sampling: after 200 updates of 8 rows of `make_income` for both (learning rate 5e-4), valid rows per
second among 400 candidates; a row is valid if it has every column, observed categories, and numbers in the observed range. Memory: the most that the process held in training, beyond what it held before there was a model.
Then what the machine can do at all: floating-point operations of a training step per second against those of large matrices (GPT-2's 6 per weight and token, plus attention), and bytes that a decoding step must read against copying memory; and, from torch's profiler, what the time of
training and of sampling goes to.
`--parts` measures what each part of ours is worth, training (german) and sampling (of its rows) with all but that part, and adds it to the results. `--tried` does so for what was tried and is not built in, with it against without, on a model without dropout;
what cannot be more than a share of the tokens saved is counted.
`--quick` measures training and sampling once, after 120 updates, and writes nothing; its last line is `train_ratio=X sample_ratio=Y valid=Z`, where valid is our share of valid rows. Where no row of the peer is valid, Y is what it would be with one.
"""
import argparse, json, os, platform, re, resource, subprocess, sys, tempfile, time

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
import joblib
import numpy as np
import pandas as pd
import torch
from torch.ao.quantization import quantize_dynamic
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
from transformers.pytorch_utils import Conv1D
from imbllm import ImbLLM, finetuning, models, sampling
from imbllm.baselines import METHODS
from imbllm.benchmark import load_table, stamp
from imbllm.datasets import make_income
from imbllm.finetuning import Corpus
from imbllm.interpolation import Interpolation
from imbllm.testing import find_gpt2_vocabulary
from imbllm.schema import infer_schema
from imbllm.serialization import Codec

RESULTS, TARGET, LR, CANDIDATES = Path(__file__).parent.parent / "results/speed.csv", "Income", 5e-4, 400
TRAIN, BRIEF, QUICK = dict(batch_size=32, steps=5), dict(batch_size=8, steps=200), dict(batch_size=8, steps=120)
LAYERS, WIDTH = 6, 768
PARTS = {"trimmed vocabulary": "training sampling", "bfloat16": "training sampling", "fused activation": "training sampling", "cheap masks of dropout": "training", "written-out attention": "training", "fused AdamW": "training",
         "rows of like length together": "training", "pieces end to end": "sampling"}
TRIED = {"compiled layers": "training", "8 rows at a time": "training", "128 rows at a time": "training", "32 rows at a time": "sampling", "512 rows at a time": "sampling", "a process per core": "sampling", "matrices in int8": "sampling",
         "every field guessed right": "sampling"}
WORK = {"matrices": "mm addmm linear", "attention": "bmm _softmax _softmax_backward_data masked_fill_ _scaled_dot_product_flash_attention_for_cpu", "activation": "gelu gelu_backward", "optimizer": "_fused_adamw_", "copies and casts": "copy_ cat fill_ index index_put_ _index_put_impl_",
        "dropout, sums and scales": "where div mul add add_ sum", "norms": "native_layer_norm native_layer_norm_backward"} # operators of torch by what they are for
AT_ONCE = 234 # rows to sample: two batches, as the sampler cuts them

def training_table(name):
    "Features and labels of a table; `make_income` if there is no such table at hand."
    beside = Path(__file__).parents[2] / "shared/data/paper" # beside the project, as GPT-2's vocabulary may be
    if beside.is_dir(): os.environ.setdefault("IMBLLM_DATA", str(beside))
    try: return load_table(name)
    except (OSError, ValueError): return make_income(1000, random_state=0)

def make_model(folder, dropout):
    "distilgpt2's shape with random weights, and GPT-2's tokenizer."
    vocabulary = find_gpt2_vocabulary()
    if vocabulary is None: sys.exit("GPT-2's vocabulary is not at hand: set IMBLLM_GPT2 to a folder with vocab.json and merges.txt.")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=LAYERS, n_embd=WIDTH, attn_pdrop=dropout, resid_pdrop=dropout, embd_pdrop=dropout)).save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(str(vocabulary)).save_pretrained(folder)

def valid(frame, X):
    "Which rows have every column, observed categories and numbers in the observed range."
    ok = np.ones(len(frame), dtype=bool)
    for name, col in X.items():
        cell = frame[name].replace("nan", np.nan)
        if pd.api.types.is_numeric_dtype(col): good = pd.to_numeric(cell, errors="coerce").between(col.min(), col.max())
        else: good = cell.astype(str).isin(set(col.dropna().astype(str)))
        ok &= (good | (cell.isna() & col.isna().any())).to_numpy()
    return ok

def train_ours(folder, device, X, y, batch_size, steps, **settings):
    sampler, rows = ImbLLM(**settings, llm=folder, finetune_on="major+minor", candidates=1, batch_size=batch_size, learning_rate=LR, epochs=1, device=device, random_state=0, verbose=0), np.arange(batch_size * steps) % len(X)
    return sampler.fit(X.iloc[rows].reset_index(drop=True), y.iloc[rows].reset_index(drop=True))

def sample_ours(sampler, X): return sampler.sample(CANDIDATES, random_state=0)

def train_peer(folder, device, X, y, batch_size, steps, **settings):
    from be_great import GReaT
    peer = GReaT(folder, experiment_dir=tempfile.mkdtemp(), batch_size=batch_size, max_steps=steps, save_strategy="no", use_cpu=device == "cpu", learning_rate=LR, **settings)
    peer.fit(X.assign(**{TARGET: y}))
    return peer

def sample_peer(peer, X):
    "What its `sample` does before it drops rows, with rows no longer than they need to be."
    from be_great.great_utils import _convert_text_to_tabular_data, _convert_tokens_to_text
    longest = max(len(peer.tokenizer(", ".join(f"{k} is {v}" for k, v in row.items()))["input_ids"]) for row in X.assign(**{TARGET: "<200K"}).to_dict("records"))
    start, frames = peer._get_start_sampler("", None), []
    peer.model.eval()
    for _ in range(CANDIDATES // 100):
        ids = torch.tensor(start.get_start_tokens(100)).to(peer.model.device)
        with torch.no_grad(): ids = peer.model.generate(input_ids=ids, attention_mask=(ids != peer.tokenizer.pad_token_id).long(), max_length=longest + 2, do_sample=True, temperature=.7, pad_token_id=peer.tokenizer.pad_token_id)
        frames.append(_convert_text_to_tabular_data(_convert_tokens_to_text(ids, peer.tokenizer), peer.columns))
    return pd.concat(frames)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 # GiB, as Linux counts

def tokens_per_row(folder, X):
    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    return float(np.mean([len(tokenizer(f"{TARGET} is <200K, " + ", ".join(f"{k} is {v}" for k, v in row.items()))["input_ids"]) for row in X.to_dict("records")]))

def measure(who, folder, device, table, brief, **settings):
    "All figures of one side, in this process; those of sampling after a training as `brief` has it, if it is given."
    (X, y), (train, sample), times, before = training_table(table), dict(ours=(train_ours, sample_ours), peer=(train_peer, sample_peer))[who], [], peak()
    hook = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    train(folder, device, X, y, **TRAIN, **settings)
    hook.remove()
    out = dict(train_rows=TRAIN["batch_size"] / np.median(np.diff(times)[1:]), memory=peak() - before, tokens=tokens_per_row(folder, X))
    out["train_tokens"] = out["train_rows"] * out["tokens"]
    if brief is None: return out
    X, y = make_income(1000, random_state=0)
    start = time.perf_counter(); model = train(folder, device, X, y, **brief)
    middle = time.perf_counter(); frame = sample(model, X); end = time.perf_counter()
    ok = valid(frame, X)
    return out | dict(sample_tokens=tokens_per_row(folder, X), brief_seconds=middle - start, sample_rows=len(frame) / (end - middle), valid=ok.mean(), valid_rows=ok.sum() / (end - middle))

def in_int8(model):
    "Let the matrices of a model be multiplied in eight bits, in place."
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, Conv1D):
                setattr(part, name, layer := torch.nn.Linear(*child.weight.shape))
                layer.weight.data, layer.bias.data = child.weight.data.T.contiguous(), child.bias.data
    quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)

def feed_fields(sampler, X, n):
    "Feed `n` rows, the label and then one whole field per step: decoding in which each guess at a value is right. Nothing is drawn."
    codec = sampler._codec
    codes = np.c_[np.zeros(n, dtype="int64"), sampler.schema_.encode(X.iloc[np.arange(n) % len(X)])]
    with sampler._computing(sampler._n_threads()):
        for rows in np.array_split(codes, -(-n // sampler._batch_size())):
            flat, start, length = codec.pieces(rows, np.tile(np.arange(codes.shape[1]), (len(rows), 1)))
            feeder = models.row_feeder(sampler.model_, len(rows), int(codec.longest().sum()) + 1)
            for s, size in zip(start.T, length.T): feeder.feed(np.concatenate([flat[a:a + k] for a, k in zip(s, size)]), size)

def arranged(part):
    "Leave a part of ours out, or put in what was tried, in this process; returns settings of the sampler."
    train = finetuning.finetune
    def compiled(model, *args, **kwargs):
        for layer in model.transformer.h: layer.compile(dynamic=True)
        return train(model, *args, **kwargs)
    if part == "compiled layers": finetuning.finetune = compiled
    if part.endswith("rows at a time"): ImbLLM._batch_size = lambda self: int(part.split()[0])
    if part == "matrices in int8": return dict(bf16=False)
    if part == "a process per core": joblib.Parallel(os.cpu_count())(joblib.delayed(import_module)("imbllm") for _ in range(os.cpu_count())) # they start
    if part == "trimmed vocabulary": Codec.kept_ids = lambda self: np.arange(len(self.tokenizer.tokenizer))
    if part == "rows of like length together": finetuning.WINDOW = 1
    if part == "fused AdamW":
        AdamW = torch.optim.AdamW
        torch.optim.AdamW = lambda *args, fused, **kwargs: AdamW(*args, **kwargs)
    if part == "pieces end to end": sampling.row_feeder = lambda model, n, longest: models.Padded(model, n)
    if part == "cheap masks of dropout": models.Dropout = torch.nn.Dropout
    if part == "written-out attention": models.SHORT = 0
    if part == "fused activation": models.NewGELUActivation = type(None)
    return dict(bf16=False) if part == "bfloat16" else {}

def with_part(part, kinds, folder, device):
    "Training and, if it is among the kinds, sampling of ours with all parts but one or with one more, in this process."
    (X, y), times, settings = training_table("german"), [], arranged(part)
    hook, training = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter())), dict(TRAIN)
    if kinds == "training" and part.endswith("rows at a time"): training["batch_size"] = int(part.split()[0])
    sampler = train_ours(folder, device, X, y, **training, **settings)
    hook.remove()
    if part == "matrices in int8": in_int8(sampler.model_)
    start, n, jobs = time.perf_counter(), AT_ONCE if "sampling" in kinds else 1, None
    if part == "a process per core": jobs = os.cpu_count(); sampler.set_params(n_jobs=1)
    if part == "every field guessed right": feed_fields(sampler, X[:TRAIN["batch_size"] * TRAIN["steps"]], n)
    else: sampler.sample(n, random_state=0, n_jobs=jobs)
    return dict(train_rows=training["batch_size"] / np.median(np.diff(times)[1:]), sample_rows=n / (time.perf_counter() - start))

def counted(folder, device):
    "What cannot gain more than the tokens that it saves, by their count: padding that packed rows would not have (the paper's rows, minority and as many interpolated), and the label's prompt, computed once for all rows of a batch."
    (X, y), finetuning.finetune = training_table("german"), lambda *_, **__: finetuning.History() # counting needs no training
    sampler = train_ours(folder, device, X, y, batch_size=len(X), steps=1)
    codec, codes = sampler._codec, sampler.schema_.encode(X[y == y.value_counts().index[-1]])
    codes = np.c_[np.zeros(len(codes), dtype="int64"), codes]
    source = Interpolation(codec.columns, codes, False, None, [j for j, letters in enumerate(codec.char_ids) if letters])
    corpus = Corpus(codec, codes, source, len(codes), "fix_y", TRAIN["batch_size"], 0)
    batches = [corpus.batch(t) for t in range(corpus.per_epoch)]
    padded, real, label = sum(ids.size for ids, _ in batches), sum(int(n.sum()) for _, n in batches), int(codec.longest()[0])
    tokens = float(codec.rows(codes, np.tile(np.arange(codes.shape[1]), (len(codes), 1)))[1].mean())
    return dict(padded=padded / real, shared=tokens / (tokens - label))

def apart(*what, function="measure", **settings):
    "`measure`, or another function, in a process of its own."
    run = subprocess.run([sys.executable, __file__, "--one", json.dumps([function, *what, settings])], capture_output=True, text=True)
    if run.returncode: sys.exit(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])

def limits(device):
    "What the machine can do: operations per second of large matrices in bfloat16 and bytes per second of copying."
    def seconds(f, n=10):
        f()
        start = time.perf_counter()
        for _ in range(n): f()
        if device != "cpu": torch.cuda.synchronize()
        return (time.perf_counter() - start) / n
    a, b, x = torch.randn(4096, 768, device=device).bfloat16(), torch.randn(768, 3072, device=device).bfloat16(), torch.randn(2**26, device=device)
    y = torch.empty_like(x)
    return 2 * 4096 * 768 * 3072 / seconds(lambda: a @ b), 2 * 4 * 2**26 / seconds(lambda: y.copy_(x))

def physical(ours, device):
    "How close to the limits training and decoding are."
    flops, bandwidth = limits(device)
    weights, t = 12 * LAYERS * WIDTH**2, ours["tokens"]
    per_token = 6 * weights + 6 * LAYERS * WIDTH * t # forward and backward; attention to half of a row
    sampled = ours["sample_rows"] * ours["sample_tokens"]
    return [dict(what="operations per second in training", ours=per_token * t * ours["train_rows"], limit=flops), dict(what="operations per second in sampling", ours=2 * weights * sampled, limit=flops),
            dict(what="bytes per second of keys and values in sampling, at most", ours=sampled * ours["sample_tokens"] / 2 * LAYERS * 2 * WIDTH * 2, limit=bandwidth)]

def profiled(folder, device):
    "Shares of the time of training and of sampling of ours, by the kind of work, in this process; what is no operator of torch is the work of Python."
    (X, y), kind_of = training_table("german"), {f"aten::{op}": kind for kind, ops in WORK.items() for op in ops.split()}
    def shares(run):
        with torch.profiler.profile() as profile:
            start = time.perf_counter(); run(); seconds = time.perf_counter() - start
        spent = pd.Series({e.key: e.self_device_time_total if device != "cpu" else e.self_cpu_time_total for e in profile.key_averages()}) / 1e6 / seconds
        spent = spent.groupby(spent.index.map(lambda op: kind_of.get(op, "other operators"))).sum()
        return (spent.to_dict() | {"outside torch": 1 - spent.sum()})
    sampler = train_ours(folder, device, X, y, **TRAIN) # loading and a first update are no part of what is profiled
    model, corpus = sampler.model_, []
    finetuning.finetune = lambda model, c, *args, **kwargs: corpus.append((c, args, kwargs)) or finetuning.History()
    train_ours(folder, device, X, y, **TRAIN)
    (c, args, kwargs), = corpus
    return dict(training=shares(lambda: finetuning.finetune(model, c, *args, **kwargs)), sampling=shares(lambda: sampler.sample(AT_ONCE, random_state=0)))

def resampling(X, y):
    "Seconds of `fit_resample` on a table, by method."
    categorical, rows = [i for i, c in enumerate(X) if not pd.api.types.is_numeric_dtype(X[c]) or X[c].dtype == bool], []
    for name in ["SMOTE-NC", "ImbLLM", "TVAE", "CTGAN"]:
        sampler = METHODS[name].make(random_state=0, categorical=categorical)
        start = time.perf_counter()
        try: sampler.fit_resample(X if not METHODS[name].on_numbers else infer_schema(X).numeric(X), y)
        except ImportError as e: print(f"{name} is left out: {e}"); continue
        rows.append(dict(what=f"seconds of fit_resample: {name}", ours=time.perf_counter() - start))
    return rows

def beside(kinds_of, how, folder, device):
    "Rows per second of ours, and with all but one part of it or with one more; ours before and after, because machines drift."
    def run(part): return apart(part, kinds_of.get(part, "training sampling"), folder, device, function="with_part")
    rows, before = [], run("nothing")
    for part, kinds in kinds_of.items():
        other, after = run(part), run("nothing")
        for kind, key in [("training", "train_rows"), ("sampling", "sample_rows")]:
            if kind in kinds: rows.append(dict(what=f"{kind} {how} {part}", ours=(whole := (before[key] + after[key]) / 2), peer=other[key], ratio=whole / other[key] if how == "without" else other[key] / whole))
        before = after
        print(rows[-1], flush=True)
    return rows

def tried(folder, device):
    count = apart(folder, device, function="counted")
    return beside(TRIED, "with", folder, device) + [dict(what="training with packed rows, at most", ratio=count["padded"]), dict(what="training or sampling with the label's prompt shared, at most", ratio=count["shared"])]

def cpu():
    "The processor's name and how it multiplies matrices in bfloat16."
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name, family = (re.search(rf"^{key}\s*: (.*)", info, re.M) for key in ["model name", "cpu family"]) # a name may say no more than the maker
    able = [k for k, v in torch.cpu.get_capabilities().items() if v and k in ("amx_bf16", "avx512_bf16")]
    return f"{name[1] if name else platform.machine()}{f' (family {family[1]})' if family else ''}, {os.cpu_count()} cores, bfloat16 by {able[0].replace('_bf16', '').upper() if able else 'float32'}"

def write(rows, args):
    "Put rows into the results, in place of those that measured the same on such a machine."
    measured = dict(repeats=args.repeats, device=args.device if args.device == "cpu" else torch.cuda.get_device_name(), threads=torch.get_num_threads(), command="python benchmarks/speed.py" + " --parts" * args.parts + " --tried" * args.tried,
                 versions=", ".join(f"{p} {version(p)}" for p in ["imbllm", "be_great", "torch", "transformers"]), machine=cpu())
    new = pd.DataFrame(rows).assign(**stamp() | measured)
    if RESULTS.exists(): new = pd.concat([pd.read_csv(RESULTS), new]).drop_duplicates(["what", "machine", "device"], keep="last")
    new.to_csv(RESULTS, index=False, float_format="%.4g")

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ["--quick", "--parts", "--tried"]: args.add_argument(flag, action="store_true")
    args.add_argument("--device", default="cpu"); args.add_argument("--repeats", type=int, default=3); args.add_argument("--one")
    args = args.parse_args()
    if args.one:
        name, *what, settings = json.loads(args.one)
        print("\n" + json.dumps(globals()[name](*what, **settings))); return
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as without:
        make_model(folder, .1)
        if args.parts: write(beside(PARTS, "without", folder, args.device), args); return
        if args.tried: make_model(without, 0.); write(tried(without, args.device), args); return
        ours, peer = [], []
        for _ in range(1 if args.quick else args.repeats):
            for who, out in [("peer", peer), ("ours", ours)]:
                out.append(apart(who, folder, args.device, "german", QUICK if args.quick else BRIEF))
                print(who, json.dumps(out[-1]), flush=True)
        def middle(side, key): return float(np.median([m[key] for m in side]))
        def row(what, key): return dict(what=what, ours=middle(ours, key), peer=middle(peer, key), ratio=float(np.median([a[key] / b[key] for a, b in zip(ours, peer)])) if middle(peer, key) else None)
        rows = [row("training, full rows per second", "train_rows"), row("training, tokens per second", "train_tokens"), row("sampling, candidates per second", "sample_rows"), row("share of valid rows", "valid"), row("sampling, valid rows per second", "valid_rows"),
                row("GiB in training", "memory"), row(f"seconds of {(QUICK if args.quick else BRIEF)['steps']} updates of 8 rows, with loading", "brief_seconds")]
        if not args.quick:
            write(rows, args)
            make_model(without, 0.)
            for what, model, table, peers in [("training without dropout, full rows per second", without, "german", {}), ("training on make_income, full rows per second", folder, "", {}),
                                              ("training, full rows per second, the peer in bfloat16 too", folder, "german", dict(bf16=True))]:
                p, o = (apart(who, model, args.device, table, None, **settings)["train_rows"] for who, settings in [("peer", peers), ("ours", {})])
                rows.append(dict(what=what, ours=o, peer=p, ratio=o / p))
            rows += [dict(what=f"share of the time of {what}: {kind}", ours=share) for what, shares in apart(folder, args.device, function="profiled").items() for kind, share in shares.items()]
            rows += physical({k: middle(ours, k) for k in ["tokens", "sample_tokens", "train_rows", "sample_rows"]}, args.device) + resampling(*make_income(2000, random_state=0))
            write(rows, args)
        print(pd.DataFrame(rows).to_string())
        found = {r["what"]: r for r in rows}
        ratio = found["sampling, valid rows per second"]["ratio"] or found["sampling, candidates per second"]["ratio"] * found["share of valid rows"]["ours"] * CANDIDATES
        print(f"train_ratio={rows[0]['ratio']:.1f} sample_ratio={ratio:.1f} valid={found['share of valid rows']['ours']:.3f}")

if __name__ == "__main__": main()
