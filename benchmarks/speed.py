"""How fast training and sampling are beside be_great, the package of GReaT's authors, on the same machine, rows and shape of model: writes results/speed.csv.

    pip install -e '.[bench]' && python benchmarks/speed.py [--quick] [--device cpu] [--repeats 3]

Both get a randomly initialised model of distilgpt2's shape with GPT-2's vocabulary (the folder that IMBLLM_GPT2 names, or shared/tokenizers/gpt2 beside the project). Each measurement is a process of its own, ours and the peer's in turns; a figure is
the median over them, a ratio the median of the ratios of neighbours.
Training: full rows per second of the german table (of `make_income` where that cannot be had), in batches of 32, by the median time between two updates. Sampling: after 200 updates of 8 rows of `make_income` for both (learning rate 5e-4), valid rows per
second among 400 candidates; a row is valid if it has every column, observed categories, and numbers in the observed range. Memory: the most that the process held in training, beyond what it held before there was a model.
Then what the machine can do at all: floating-point operations of a training step per second against those of large matrices (GPT-2's 6 per weight and token, plus attention), and bytes that a decoding step must read against copying memory.
`--parts` measures what each part of ours is worth, training (german) and sampling (of its rows) with all but that part, and adds it to the results.
`--quick` measures training and sampling once and writes nothing; its last line is `train_ratio=X sample_ratio=Y valid=Z`, where valid is our share of valid rows.
"""
import argparse, datetime, json, os, platform, resource, subprocess, sys, tempfile, time

from importlib.metadata import version
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
from imbllm import ImbLLM, finetuning, models, sampling
from imbllm.baselines import METHODS
from imbllm.benchmark import load_table
from imbllm.datasets import make_income
from imbllm.models import find_gpt2_vocabulary
from imbllm.schema import infer_schema
from imbllm.serialization import Codec

RESULTS, TARGET, LR, CANDIDATES = Path(__file__).parent.parent / "results/speed.csv", "Income", 5e-4, 400
TRAIN, BRIEF = dict(batch_size=32, steps=5), dict(batch_size=8, steps=200)
LAYERS, WIDTH = 6, 768
PARTS = {"trimmed vocabulary": "training sampling", "bfloat16": "training sampling", "fused activation": "training sampling", "cheap masks of dropout": "training", "written-out attention": "training", "fused AdamW": "training",
         "rows of like length together": "training", "pieces end to end": "sampling"}

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

def train_peer(folder, device, X, y, batch_size, steps):
    from be_great import GReaT
    peer = GReaT(folder, experiment_dir=tempfile.mkdtemp(), batch_size=batch_size, max_steps=steps, save_strategy="no", use_cpu=device == "cpu", learning_rate=LR)
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

def measure(who, folder, device, table, sampling):
    "All figures of one side, in this process."
    (X, y), (train, sample), times, before = training_table(table), dict(ours=(train_ours, sample_ours), peer=(train_peer, sample_peer))[who], [], peak()
    hook = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    train(folder, device, X, y, **TRAIN)
    hook.remove()
    out = dict(train_rows=TRAIN["batch_size"] / np.median(np.diff(times)[1:]), memory=peak() - before, tokens=tokens_per_row(folder, X))
    if not sampling: return out
    X, y = make_income(1000, random_state=0)
    start = time.perf_counter(); model = train(folder, device, X, y, **BRIEF)
    middle = time.perf_counter(); frame = sample(model, X); end = time.perf_counter()
    ok = valid(frame, X)
    return out | dict(sample_tokens=tokens_per_row(folder, X), brief_seconds=middle - start, sample_rows=len(frame) / (end - middle), valid=ok.mean(), valid_rows=ok.sum() / (end - middle))

def without_part(part):
    "Leave a part of ours out, in this process; returns settings of the sampler."
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

def with_all_but(part, kinds, folder, device):
    "Training and, if it is among the kinds, sampling of ours with all parts but one, in this process."
    (X, y), times, settings = training_table("german"), [], without_part(part)
    hook = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    sampler = train_ours(folder, device, X, y, **TRAIN, **settings)
    hook.remove()
    start, n = time.perf_counter(), 234 if "sampling" in kinds else 1
    sampler.sample(n, random_state=0)
    return dict(train_rows=TRAIN["batch_size"] / np.median(np.diff(times)[1:]), sample_rows=n / (time.perf_counter() - start))

def apart(*what, function="measure"):
    "`measure`, or another function, in a process of its own."
    run = subprocess.run([sys.executable, __file__, "--one", json.dumps([function, *what])], capture_output=True, text=True)
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

def resampling(X, y):
    "Seconds of `fit_resample` on a table, by method."
    categorical, rows = [i for i, c in enumerate(X) if not pd.api.types.is_numeric_dtype(X[c]) or X[c].dtype == bool], []
    for name in ["SMOTE-NC", "ImbLLM", "TVAE", "CTGAN"]:
        sampler = METHODS[name].make(random_state=0, categorical=categorical)
        start = time.perf_counter(); sampler.fit_resample(X if not METHODS[name].on_numbers else infer_schema(X).numeric(X), y)
        rows.append(dict(what=f"seconds of fit_resample: {name}", ours=time.perf_counter() - start))
    return rows

def parts(folder, device):
    "Rows per second of ours, and with all but one part of it; the whole before and after, because machines drift."
    def run(part): return apart(part, PARTS.get(part, "training sampling"), folder, device, function="with_all_but")
    rows, before = [], run("nothing")
    for part, kinds in PARTS.items():
        less, after = run(part), run("nothing")
        for kind, key in [("training", "train_rows"), ("sampling", "sample_rows")]:
            if kind in kinds: rows.append(dict(what=f"{kind} without {part}", ours=(whole := (before[key] + after[key]) / 2), peer=less[key], ratio=whole / less[key]))
        before = after
        print(rows[-1], flush=True)
    return rows

def write(rows, args):
    "Put rows into the results, in place of those that measured the same."
    stamp = dict(repeats=args.repeats, device=args.device if args.device == "cpu" else torch.cuda.get_device_name(), threads=torch.get_num_threads(), command="python benchmarks/speed.py" + " --parts" * args.parts,
                 versions=", ".join(f"{p} {version(p)}" for p in ["imbllm", "be_great", "torch", "transformers"]), machine=f"{platform.machine()}, {os.cpu_count()} cores", date=datetime.date.today().isoformat())
    new = pd.DataFrame(rows).assign(**stamp)
    if RESULTS.exists(): new = pd.concat([(old := pd.read_csv(RESULTS))[~old.what.isin(new.what)], new])
    new.to_csv(RESULTS, index=False, float_format="%.4g")

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--quick", action="store_true"); args.add_argument("--parts", action="store_true"); args.add_argument("--device", default="cpu"); args.add_argument("--repeats", type=int, default=3); args.add_argument("--one")
    args = args.parse_args()
    if args.one:
        name, *what = json.loads(args.one)
        print("\n" + json.dumps(globals()[name](*what))); return
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as without:
        make_model(folder, .1)
        if args.parts: write(parts(folder, args.device), args); return
        ours, peer = [], []
        for _ in range(1 if args.quick else args.repeats):
            for who, out in [("peer", peer), ("ours", ours)]:
                out.append(apart(who, folder, args.device, "german", True))
                print(who, json.dumps(out[-1]), flush=True)
        def middle(side, key): return float(np.median([m[key] for m in side]))
        def row(what, key): return dict(what=what, ours=middle(ours, key), peer=middle(peer, key), ratio=float(np.median([a[key] / b[key] for a, b in zip(ours, peer)])) if middle(peer, key) else None)
        rows = [row("training, full rows per second", "train_rows"), row("sampling, candidates per second", "sample_rows"), row("share of valid rows", "valid"), row("sampling, valid rows per second", "valid_rows"),
                row("GiB in training", "memory"), row("seconds of 200 updates of 8 rows, with loading", "brief_seconds")]
        if not args.quick:
            make_model(without, 0.)
            for what, model, table in [("training without dropout, full rows per second", without, "german"), ("training on make_income, full rows per second", folder, "")]:
                p, o = (apart(who, model, args.device, table, False)["train_rows"] for who in ["peer", "ours"])
                rows.append(dict(what=what, ours=o, peer=p, ratio=o / p))
            rows += physical({k: middle(ours, k) for k in ["tokens", "sample_tokens", "train_rows", "sample_rows"]}, args.device) + resampling(*make_income(2000, random_state=0))
            write(rows, args)
        print(pd.DataFrame(rows).to_string())
        print(f"train_ratio={rows[0]['ratio']:.1f} sample_ratio={rows[3]['ratio'] if rows[3]['ratio'] is not None else float('inf'):.1f} valid={rows[2]['ours']:.3f}")

if __name__ == "__main__": main()
