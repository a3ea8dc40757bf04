"""Training and sampling speed compared with be_great, the package of GReaT's authors: writes results/speed.csv.

    pip install -e '.[bench]' && python benchmarks/speed.py [--quick] [--device cpu] [--repeats 3]

Both run on the same machine with the same rows and shape of model. The model has distilgpt2's shape, random weights,
and GPT-2's vocabulary (the folder that IMBLLM_GPT2 names, or shared/tokenizers/gpt2 in the project's parent folder).
Each measurement is a separate process, ours and the peer's in turns. A figure is the median over them, and a ratio is
the median of the ratios of consecutive runs.

Training: full rows per second of the german table (of `make_income` without it), in batches of 32, by the median time
per update. Sampling: valid rows per second among 400 candidates, after 200 updates of 8 rows of `make_income` for both
(learning rate 5e-4). A valid row has every column, observed categories, and numbers in the observed range. Memory: the
peak of the process in training, minus its memory before the model was created.

Then the limits of the machine. We compare the operations of a training step per second (GPT-2's 6 per weight and token,
plus attention) with those of large matrix products. We compare the bytes that a decoding step must read with those of a
memory copy. The profiler of torch shows the parts of the time of training and of sampling.

`--quick` measures training and sampling once, after 120 updates, and writes nothing. Its last line is `train_ratio=X
sample_ratio=Y valid=Z`; valid is our share of valid rows. If no row of the peer is valid, Y assumes one.
benchmarks/tried/parts.py measures the contribution of each part of ours.
"""
import json, os, platform, re, resource, sys, tempfile, time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from imbllm import ImbLLM, Training
from imbllm.baselines import METHODS
from imbllm.benchmark import load_table
from imbllm.datasets import make_income
from imbllm.testing import find_gpt2_vocabulary
from imbllm.schema import infer_schema
from study import apart, arguments, save, serve_one, stamped

TARGET = "Income"
LR = 5e-4
CANDIDATES = 400
TRAIN = dict(batch_size=32, steps=5)
BRIEF = dict(batch_size=8, steps=200)
QUICK = dict(batch_size=8, steps=120)
LAYERS, WIDTH = 6, 768
AT_ONCE = 234 # rows to sample: two batches, as the sampler cuts them
WORK = { # operators of torch by what they are for
    "matrices": "mm addmm linear",
    "attention": "bmm _softmax _softmax_backward_data masked_fill_ _scaled_dot_product_flash_attention_for_cpu",
    "activation": "gelu gelu_backward", "optimizer": "_fused_adamw_",
    "copies and casts": "copy_ cat fill_ index index_put_ _index_put_impl_",
    "dropout, sums and scales": "where div mul add add_ sum",
    "norms": "native_layer_norm native_layer_norm_backward"}
KIND_OF = {f"aten::{op}": kind for kind, ops in WORK.items() for op in ops.split()}

def training_table(name):
    "Features and labels of a table; `make_income` if there is no such table at hand."
    beside = Path(__file__).parents[2] / "shared/data/paper" # beside the project, as GPT-2's vocabulary may be
    if beside.is_dir(): os.environ.setdefault("IMBLLM_DATA", str(beside))
    try: return load_table(name)
    except (OSError, ValueError): return make_income(1000, random_state=0)

def make_model(folder, dropout):
    "distilgpt2's shape with random weights, and GPT-2's tokenizer."
    vocabulary = find_gpt2_vocabulary()
    if vocabulary is None:
        sys.exit("GPT-2's vocabulary is not at hand: set IMBLLM_GPT2 to a folder with vocab.json and merges.txt.")
    torch.manual_seed(0)
    rates = dict(attn_pdrop=dropout, resid_pdrop=dropout, embd_pdrop=dropout)
    GPT2LMHeadModel(GPT2Config(n_layer=LAYERS, n_embd=WIDTH, **rates)).save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(str(vocabulary)).save_pretrained(folder)

def valid(frame, X):
    "Which rows have every column, observed categories and numbers in the observed range."
    ok = np.ones(len(frame), dtype=bool)
    for name, col in X.items():
        cell = frame[name].replace("nan", np.nan)
        if pd.api.types.is_numeric_dtype(col):
            good = pd.to_numeric(cell, errors="coerce").between(col.min(), col.max())
        else: good = cell.astype(str).isin(set(col.dropna().astype(str)))
        ok &= (good | (cell.isna() & col.isna().any())).to_numpy()
    return ok

def train_ours(folder, device, X, y, batch_size, steps, **settings):
    "A sampler of ours after so many updates of so many rows."
    rows = np.arange(batch_size * steps) % len(X)
    common = dict(finetune_on="major+minor", candidates=1, epochs=1, random_state=0, verbose=0)
    training = Training(batch_size=batch_size, learning_rate=LR, **settings)
    sampler = ImbLLM(llm=folder, device=device, training=training, **common)
    return sampler.fit(X.iloc[rows].reset_index(drop=True), y.iloc[rows].reset_index(drop=True))

def sample_ours(sampler, X): return sampler.sample(CANDIDATES, random_state=0)

def train_peer(folder, device, X, y, batch_size, steps, **settings):
    "The peer after so many updates of so many rows."
    from be_great import GReaT
    common = dict(save_strategy="no", use_cpu=device == "cpu", learning_rate=LR, experiment_dir=tempfile.mkdtemp())
    peer = GReaT(folder, batch_size=batch_size, max_steps=steps, **common, **settings)
    peer.fit(X.assign(**{TARGET: y}))
    return peer

def sentence(row): return ", ".join(f"{k} is {v}" for k, v in row.items())

def sample_peer(peer, X):
    "The work of its `sample` before it drops rows, with rows of the minimal length."
    from be_great.great_utils import _convert_text_to_tabular_data, _convert_tokens_to_text
    rows = X.assign(**{TARGET: "<200K"}).to_dict("records")
    longest = max(len(peer.tokenizer(sentence(row))["input_ids"]) for row in rows)
    start = peer._get_start_sampler("", None)
    pad = peer.tokenizer.pad_token_id
    peer.model.eval()
    frames = []
    for _ in range(CANDIDATES // 100):
        ids = torch.tensor(start.get_start_tokens(100)).to(peer.model.device)
        settings = dict(max_length=longest + 2, do_sample=True, temperature=.7, pad_token_id=pad)
        with torch.no_grad():
            ids = peer.model.generate(input_ids=ids, attention_mask=(ids != pad).long(), **settings)
        frames.append(_convert_text_to_tabular_data(_convert_tokens_to_text(ids, peer.tokenizer), peer.columns))
    return pd.concat(frames)

SIDES = dict(ours=(train_ours, sample_ours), peer=(train_peer, sample_peer))

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 # GiB, as Linux counts

def tokens_per_row(folder, X):
    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    texts = [f"{TARGET} is <200K, {sentence(row)}" for row in X.to_dict("records")]
    return float(np.mean([len(tokenizer(text)["input_ids"]) for text in texts]))

class Updates:
    "A context that notes the time after each step of an optimizer, and calls back."
    def __init__(self, then=lambda n: None): self.times, self.then = [], then

    def __enter__(self):
        self.hook = register_optimizer_step_post_hook(self._note)
        return self

    def _note(self, *_):
        self.times.append(time.perf_counter())
        self.then(len(self.times))

    def __exit__(self, *_): self.hook.remove()

    def seconds(self): return float(np.median(np.diff(self.times)[1:]))

def measure(who, folder, device, table, brief, **settings):
    "All figures of one side, in this process; those of sampling after a training as `brief` has it, if it is given."
    X, y = training_table(table)
    train, sample = SIDES[who]
    before = peak()
    with Updates() as updates: train(folder, device, X, y, **TRAIN, **settings)
    rate = TRAIN["batch_size"] / updates.seconds()
    out = dict(train_rows=rate, memory=peak() - before, tokens=tokens_per_row(folder, X))
    out["train_tokens"] = out["train_rows"] * out["tokens"]
    if brief is None: return out
    X, y = make_income(1000, random_state=0)
    start = time.perf_counter()
    model = train(folder, device, X, y, **brief)
    middle = time.perf_counter()
    frame = sample(model, X)
    seconds = time.perf_counter() - middle
    ok = valid(frame, X)
    return out | dict(sample_tokens=tokens_per_row(folder, X), brief_seconds=middle - start,
                      sample_rows=len(frame) / seconds, valid=ok.mean(), valid_rows=ok.sum() / seconds)

def limits(device):
    "What the machine can do: operations per second of large matrices in bfloat16 and bytes per second of copying."
    def seconds(f, n=10):
        f()
        start = time.perf_counter()
        for _ in range(n): f()
        if device != "cpu": torch.cuda.synchronize()
        return (time.perf_counter() - start) / n
    a = torch.randn(4096, 768, device=device).bfloat16()
    b = torch.randn(768, 3072, device=device).bfloat16()
    x = torch.randn(2**26, device=device)
    y = torch.empty_like(x)
    return 2 * 4096 * 768 * 3072 / seconds(lambda: a @ b), 2 * 4 * 2**26 / seconds(lambda: y.copy_(x))

def physical(ours, device):
    "How close to the limits training and decoding are."
    flops, bandwidth = limits(device)
    weights, t = 12 * LAYERS * WIDTH**2, ours["tokens"]
    per_token = 6 * weights + 6 * LAYERS * WIDTH * t # forward and backward; attention to half of a row
    sampled = ours["sample_rows"] * ours["sample_tokens"]
    in_training = per_token * t * ours["train_rows"]
    keys_and_values = sampled * ours["sample_tokens"] / 2 * LAYERS * 2 * WIDTH * 2
    return [dict(what="operations per second in training", ours=in_training, limit=flops),
            dict(what="operations per second in sampling", ours=2 * weights * sampled, limit=flops),
            dict(what="bytes per second of keys and values in sampling, at most", ours=keys_and_values,
                 limit=bandwidth)]

class Profile:
    "Shares of a time span by the kind of work; anything but an operator of torch is the work of Python."
    def __init__(self, device): self.profile, self.device = torch.profiler.profile(), device

    def start(self):
        self.profile.start()
        self.begun = time.perf_counter()

    def stop(self):
        self.seconds = time.perf_counter() - self.begun
        self.profile.stop()

    def shares(self):
        own = "self_cpu_time_total" if self.device == "cpu" else "self_device_time_total"
        spent = pd.Series({e.key: getattr(e, own) for e in self.profile.key_averages()}) / 1e6 / self.seconds
        spent = spent.groupby(spent.index.map(lambda op: KIND_OF.get(op, "other operators"))).sum()
        return spent.to_dict() | {"outside torch": 1 - spent.sum()}

def profiled(folder, device):
    "Shares of the time of training, from its first update to its last, and of sampling."
    X, y = training_table("german")
    training, sampling = Profile(device), Profile(device)
    def switch(n):
        if n == 1: training.start() # loading and a first update are no part of what is profiled
        if n == TRAIN["steps"]: training.stop()
    with Updates(switch): sampler = train_ours(folder, device, X, y, **TRAIN)
    sampling.start()
    sampler.sample(AT_ONCE, random_state=0)
    sampling.stop()
    return dict(training=training.shares(), sampling=sampling.shares())

def resampling(X, y):
    "Seconds of `fit_resample` on a table, by method."
    def is_text(c): return not pd.api.types.is_numeric_dtype(X[c]) or X[c].dtype == bool
    categorical = [i for i, c in enumerate(X) if is_text(c)]
    for name in ["SMOTE-NC", "ImbLLM", "TVAE", "CTGAN"]:
        sampler = METHODS[name].make(random_state=0, categorical=categorical)
        rows = infer_schema(X).numeric(X) if METHODS[name].on_numbers else X
        start = time.perf_counter()
        try: sampler.fit_resample(rows, y)
        except ImportError as e:
            print(f"{name} is left out: {e}")
            continue
        yield dict(what=f"seconds of fit_resample: {name}", ours=time.perf_counter() - start)

def cpu():
    "The processor's name and how it multiplies matrices in bfloat16."
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    def entry(key): return re.search(rf"^{key}\s*: (.*)", info, re.M)
    name, family = entry("model name"), entry("cpu family") # a name may say no more than the maker
    able = [k for k, v in torch.cpu.get_capabilities().items() if v and k in ("amx_bf16", "avx512_bf16")]
    unit = able[0].replace("_bf16", "").upper() if able else "float32"
    model = (name[1] if name else platform.machine()) + (f" (family {family[1]})" if family else "")
    return f"{model}, {os.cpu_count()} cores, bfloat16 by {unit}"

def write(rows, args, command):
    "Put rows into the results, in place of those with the same measurement on such a machine."
    device = args.device if args.device == "cpu" else torch.cuda.get_device_name()
    versions = ", ".join(f"{p} {version(p)}" for p in ["imbllm", "be_great", "torch", "transformers"])
    made = stamped(command) | dict(repeats=args.repeats, device=device, threads=torch.get_num_threads(),
                                   versions=versions, machine=cpu())
    made.pop("version")
    save([row | made for row in rows], args.results / "speed.csv", ["what", "machine", "device"], "%.4g")

ROWS = {"training, full rows per second": "train_rows", "training, tokens per second": "train_tokens",
        "sampling, candidates per second": "sample_rows", "share of valid rows": "valid",
        "sampling, valid rows per second": "valid_rows", "GiB in training": "memory"}

def middle(side, key): return float(np.median([m[key] for m in side]))

def row(what, key, ours, peer):
    "A figure of both sides, the median over their processes, and the median ratio of neighbours."
    ratio = float(np.median([a[key] / b[key] for a, b in zip(ours, peer)])) if middle(peer, key) else None
    return dict(what=what, ours=middle(ours, key), peer=middle(peer, key), ratio=ratio)

def further(folder, without, ours, device):
    "Other tables and settings of training, where the time goes, the machine's limits, and other methods."
    variants = [("training without dropout, full rows per second", without, "german", {}),
                ("training on make_income, full rows per second", folder, "", {}),
                ("training, full rows per second, the peer in bfloat16 too", folder, "german", dict(bf16=True))]
    for what, model, table, peers in variants:
        p = apart(__file__, "measure", "peer", model, device, table, None, **peers)["train_rows"]
        o = apart(__file__, "measure", "ours", model, device, table, None)["train_rows"]
        yield dict(what=what, ours=o, peer=p, ratio=o / p)
    for what, shares in apart(__file__, "profiled", folder, device).items():
        for kind, share in shares.items(): yield dict(what=f"share of the time of {what}: {kind}", ours=share)
    yield from physical({k: middle(ours, k) for k in ["tokens", "sample_tokens", "train_rows", "sample_rows"]}, device)
    yield from resampling(*make_income(2000, random_state=0))

def main():
    args = arguments(__doc__, quick=False, device="cpu", repeats=3, one="")
    if args.one: return serve_one(args.one, dict(measure=measure, profiled=profiled))
    brief = QUICK if args.quick else BRIEF
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as without:
        make_model(folder, .1)
        sides = dict(peer=[], ours=[])
        for _ in range(1 if args.quick else args.repeats):
            for who, measured in sides.items():
                measured.append(apart(__file__, "measure", who, folder, args.device, "german", brief))
                print(who, json.dumps(measured[-1]), flush=True)
        rows = [row(what, key, sides["ours"], sides["peer"]) for what, key in ROWS.items()]
        seconds = f"seconds of {brief['steps']} updates of 8 rows, with loading"
        rows.append(row(seconds, "brief_seconds", sides["ours"], sides["peer"]))
        if not args.quick:
            write(rows, args, "speed.py")
            make_model(without, 0.)
            rows += further(folder, without, sides["ours"], args.device)
            write(rows, args, "speed.py")
    print(pd.DataFrame(rows).to_string())
    found = {r["what"]: r for r in rows}
    share = found["share of valid rows"]["ours"]
    ratio = found["sampling, valid rows per second"]["ratio"]
    ratio = ratio or found["sampling, candidates per second"]["ratio"] * share * CANDIDATES
    print(f"train_ratio={rows[0]['ratio']:.1f} sample_ratio={ratio:.1f} valid={share:.3f}")

if __name__ == "__main__": main()
