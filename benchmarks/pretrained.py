"""The paper's methods on a pre-trained language model: writes results/pretrained.csv.

    IMBLLM_DATA=folder python benchmarks/pretrained.py rows --out FOLDER --until 500 [--device cuda] [--workers 4]
    IMBLLM_DATA=folder python benchmarks/pretrained.py worth --out FOLDER --until 500 [--rare 25 50] [--epochs 1 10 50]
    IMBLLM_DATA=folder python benchmarks/pretrained.py evaluate --unpack FOLDER/*.tar --work CELLS

`rows` fine-tunes and samples, on any device; it needs neither XGBoost nor the packages of the other baselines. One
fine-tuning serves all cells that differ in the sampling only. Each cell leaves its new rows (`.csv.gz`) and a record
(`.json`) in `--work`, both whole or not at all, and is not run again. Every minute, and at the end, all of them are
packed into at most three tar files in `--out`. Nothing begins that would end later than `--until` seconds after the
start. A running cell then stops early and keeps its results; the record says after how many epochs, or rows. `rows
--unpack A.tar B.tar` begins with the cells of an earlier run.

`worth` measures the benefit of pre-training, after some epochs on some rare rows of a table. It fits the same model
with the given weights and with random ones (`random`). A third fit has the given weights, and a table where every name
and category is an invented word (`nonsense`). `embedded` is this package's model on the same rows. Rows of the text
models are written under the grammar, because a model after a short training writes none freely. By default it runs
after all cells of `rows`, too.

`evaluate` scores the rows of each cell by the three protocols of `imbllm bench`. The rows top up the table (`fixed`),
are encoded like those of the published code (`published`), or replace the given rare rows (`paper`). GReaT's rows are
scored once more as `TapTap(relabel=True)`: kept under the label that a classifier gives them, as the published code
treats TapTap's. The cells of `worth` go to results/worth.csv, topped up, with a line for doing nothing.

The methods are those of the paper, without the grammar, and with every token of the model. They are `ImbLLM@paper`,
GReaT, Pred-LLM, TapTap, and the other rows of Table III as `prompt/order/rows`. TapTap's classifier is scikit-learn's
histogram gradient boosting, similar to the LightGBM of its paper.
"""
import argparse, gzip, json, math, multiprocessing, os, platform, re, tarfile, time, traceback
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
import torch
import transformers
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from imbllm import ImbLLM, Sampling, Training, __version__, finetuning, rowmodel
from imbllm.candidates import BudgetError, Candidates, Halving, accepted_rows
from imbllm.core import write_atomically
from imbllm.datasets import load_dataset, train_test_cut
from imbllm.models import load_llm
from imbllm.oversampler import fit_verifier, verify_rows
from imbllm.schema import encode_column
from imbllm.tables import decode_table

FOUR = ["insurance", "german", "fuel", "car"]
LONG = ["bank", "sick"]
LARGE = ["housing", "credit_card", "gem_price", "adult"]
TEN = FOUR + LONG + LARGE
RARE = [25, 50, 10, 100, 500] # rare rows to learn from, the most wanted first
STEPS = [50, 10, 1, 20, 5] # epochs
STARTS = ["pretrained", "random", "nonsense", "embedded"]
PAPER = "ImbLLM@paper"
RESULTS = Path(__file__).resolve().parent.parent / "results"
Q = .2 # share of the training minority that is kept
EPOCHS = 50
PART = 15 * 2**20 # bytes of a tar file, at most
HELD_OUT = 256 # rare test rows whose likelihood is measured, at most

# What a model learns, by the switches of Table III, and which cells are sampled from it: prompt, verification
GRID = {
    ("fix_y", "minor+interpolate"): {PAPER: "yx", "y/fix_y/minor+interpolate": "y"},
    ("permute_xy", "major+minor"): {"GReaT": "y", "TapTap": "y", "yx/permute_xy/major+minor": "yx"},
    ("label_last+original", "major+minor"): {"Pred-LLM": "x"},
    ("fix_y", "major+minor"): {"y/fix_y/major+minor": "y", "yx/fix_y/major+minor": "yx"},
    ("permute_xy", "minor+interpolate"): {
        "y/permute_xy/minor+interpolate": "y", "yx/permute_xy/minor+interpolate": "yx"},
}
OURS, GREAT, PRED, FIXED, PERMUTED = GRID
WORTH = "worth"
RELABELLED = "TapTap(relabel=True)"

# --- what is to be done, the most wanted first ---

@dataclass(frozen=True)
class Fit:
    "A model to be fine-tuned, and what is sampled from it."
    dataset:str
    permutation:str
    finetune_on:str
    seed:int
    epochs:int=EPOCHS # 0: as many as the time allows
    weights:str="pretrained" # or "random", "nonsense", "embedded"
    rare:int=0 # rare rows to learn from, in the study of what pre-training is worth; else the share `Q` of them

    @property
    def methods(self):
        "Cells by name, with their prompts."
        if self.rare: return {WORTH: "yx"}
        cells = GRID[self.permutation, self.finetune_on]
        return cells if self.weights == "pretrained" else {PAPER: cells[PAPER]}

    def name(self, method=""):
        "File name of a cell, or of the model."
        parts = method or f"{self.permutation}-{self.finetune_on}", self.dataset, self.seed
        if self.rare: parts = WORTH, self.finetune_on, self.dataset, f"{self.rare}rare", f"{self.epochs}ep", self.seed
        end = "" if self.weights == "pretrained" else f"+{self.weights}"
        return re.sub(r"[^\w@.+-]+", "-", "_".join(map(str, parts)) + end)

def priorities(tables=()):
    "The models of the built-in list, in order."
    def of(some, kinds, seed): return [Fit(t, *kind, seed, epochs=EPOCHS if t in FOUR else 0)
                                       for t in some for kind in kinds]
    other = [Fit(t, *OURS, 0, weights=weights) for weights in ("random", "nonsense") for t in FOUR]
    seeds = range(3)
    found = [f for s in seeds for f in of(FOUR, [OURS], s)] + of(LONG + LARGE, [OURS], 0)
    found += of(FOUR, [GREAT, PRED], 0) + of(FOUR, [FIXED, PERMUTED], 0) + other
    found += [f for s in seeds[1:] for f in of(FOUR, [GREAT, PRED, FIXED, PERMUTED], s)]
    found += of(LONG, [GREAT, PRED], 0) + [f for s in seeds[1:] for f in of(LONG + LARGE, [OURS], s)]
    found += worths(["insurance", "german"]) + worths(["bank"], finetune_on=OURS[1])
    found += [f for s in seeds for f in of(LONG + LARGE, [GREAT, PRED, FIXED, PERMUTED], s)]
    return [f for f in dict.fromkeys(found) if not tables or f.dataset in tables]

def worths(tables, rare=RARE, epochs=STEPS, starts=STARTS, seeds=(0,), finetune_on="minor"):
    "Models of the study `worth`; the embedded one has its own length of training."
    return [Fit(t, OURS[0], finetune_on, s, n, start, k) for s in seeds for t in tables for k in rare
            for i, n in enumerate(epochs) for start in starts if start != "embedded" or i == 0]

def settings(fit, method, learning_rate, device, batch_size=32):
    "Arguments of the sampler: the paper's preset, with other switches."
    common = dict(condition="yx", permutation=fit.permutation, finetune_on=fit.finetune_on, random_state=fit.seed,
                  sampling_strategy="minority", device=device, verbose=0)
    if fit.weights == "embedded": return common | dict(temperature=.7)
    if fit.rare: return common | dict(
        preset="paper", epochs=fit.epochs, sampling=Sampling(constrained=True),
        training=Training(batch_size=batch_size, learning_rate=learning_rate, trim_vocabulary=True))
    return common | dict(
        preset="paper", condition=fit.methods[method], epochs=fit.epochs or EPOCHS,
        verify="label" if method == "Pred-LLM" else "none",
        training=Training(batch_size=batch_size, learning_rate=learning_rate),
        sampling=Sampling(budget=500, prompts="quota" if method == "Pred-LLM" else "drawn"))

# --- the clock ---

class OutOfTime(Exception):
    "What is running has to stop now."

class Speed:
    "Predicts seconds of an update and of a sampled token, from what was measured so far."
    def __init__(self, work, floor, rate, longest):
        self.work = work
        self.longest = longest # seconds of sampling that a cell gets
        self.floor = floor # seconds of an update, at least
        self.rate = rate # tokens per second in training

    def _records(self):
        for path in self.work.glob("*.json"):
            try: record = json.loads(path.read_text())
            except (OSError, ValueError): continue
            if record.get("updates"): yield record

    def update(self, fit, tokens):
        "Seconds of an update of so many tokens: those of the same table, else by the tokens."
        found = list(self._records())
        same = [r["train_seconds"] / r["updates"] for r in found
                if r["fit"]["dataset"] == fit.dataset and r["fit"]["finetune_on"] == fit.finetune_on]
        if same: return float(np.mean(same))
        if not found: return max(self.floor, tokens / self.rate)
        per_token = np.median([r["train_seconds"] / r["tokens"] for r in found])
        return max(min(r["train_seconds"] / r["updates"] for r in found), tokens * float(per_token))

    def sampling(self, fit, rows):
        "Seconds for so many rows of a table."
        found = [r["sample_seconds"] / r["new_rows"] for r in self._records()
                 if r["fit"]["dataset"] == fit.dataset and r["status"] == "ok"]
        return min(self.longest, rows * (float(np.mean(found)) if found else .02)) + 2

class Watched:
    "Stands in for `finetune`: counts tokens, shortens what would not end in time, and stops at the deadline."
    def __init__(self, fit, speed, stop):
        self.fit = fit
        self.speed = speed
        self.stop = stop # when to stop, in seconds of `time.time`
        self.record = {}

    def __call__(self, model, corpus, steps, lr, **more):
        steps = self._affordable(corpus, steps)
        real = corpus.batch
        start = time.time()
        done = dict(updates=0, tokens=0)
        def batch(t):
            if time.time() > self.stop: raise OutOfTime
            ids, length = real(t)
            done["updates"] = max(done["updates"], t + 1)
            done["tokens"] += int(length.sum())
            return ids, length
        corpus.batch = batch
        try: history = finetuning.finetune(model, corpus, steps, lr, **more)
        except OutOfTime:
            model.eval()
            history = finetuning.History(stopped=True)
        seconds = time.time() - start
        begin, end = (float(np.mean(part)) if len(part) else None for part in (history.loss[:10], history.loss[-10:]))
        self.record |= done | dict(
            train_seconds=seconds, updates_planned=steps, updates_per_epoch=corpus.per_epoch, loss_begin=begin,
            epochs=done["updates"] / corpus.per_epoch, loss_end=end, stopped_early=history.stopped,
            trained_rows=corpus.n)
        return history

    def _affordable(self, corpus, steps):
        "How many updates there is time for."
        lengths = [int(corpus.batch(t)[1].sum()) for t in range(min(8, corpus.per_epoch))]
        most = min(1e9, self.stop - time.time()) / self.speed.update(self.fit, float(np.mean(lengths)))
        self.record["tokens_per_update"] = float(np.mean(lengths))
        enough = corpus.per_epoch / 2 if self.fit.epochs == 0 else .9 * steps
        if most >= enough: return min(steps, int(most)) if self.fit.epochs == 0 else steps
        raise OutOfTime(f"{steps} updates do not fit; there is time for {int(most)}")

# --- a model and its cells ---

def made_up(rng):
    "Words that mean nothing, each once."
    seen = set()
    while True:
        word = "".join(rng.choice(list("bdfgjklmnprstvz")) + rng.choice(list("aeiou")) for _ in range(3))
        if word not in seen: yield word
        seen.add(word)

class Nonsense:
    "Made-up words for the names and the categories of a table, and back; numbers stay."
    def __init__(self, X, y):
        words = made_up(np.random.default_rng(0))
        self.names = {c: next(words) for c in X}
        texts = [c for c in X if not pd.api.types.is_numeric_dtype(X[c])]
        self.cells = {c: {v: next(words) for v in sorted(X[c].dropna().unique())} for c in texts}
        self.labels = {v: next(words) for v in np.unique(y)}
        self.label = next(words)

    def hidden(self, X):
        "A table in made-up words."
        cells = {c: X[c].map(words).astype(X[c].dtype) for c, words in self.cells.items()}
        return X.assign(**cells).rename(columns=self.names)

    def hidden_labels(self, y): return y.map(self.labels).rename(self.label)

    def shown(self, X):
        "The table that was hidden."
        X = X.rename(columns={word: c for c, word in self.names.items()})
        back = {c: {word: v for v, word in words.items()} for c, words in self.cells.items()}
        return X.assign(**{c: X[c].map(words).astype(X[c].dtype) for c, words in back.items()})

def share(fit):
    "Share of the training minority that is kept."
    if not fit.rare: return Q
    _, _, y, _ = train_test_cut(*load_dataset(fit.dataset), q=1, random_state=fit.seed)
    have = int(y.value_counts().iloc[-1])
    if have < fit.rare: raise ValueError(f"{fit.dataset} has {have} rare rows to learn from; {fit.rare} are wanted.")
    return fit.rare / have

class Problem:
    "A table, split and cut as in `imbllm bench`."
    def __init__(self, fit):
        X, y = load_dataset(fit.dataset)
        self.words = Nonsense(X, y) if fit.weights == "nonsense" else None
        self.q = share(fit)
        self.X, X_test, self.y, y_test = train_test_cut(X, y, q=self.q, random_state=fit.seed)
        if self.words: # after the split, which goes by the order of the labels
            self.X, X_test = map(self.words.hidden, (self.X, X_test))
            self.y, y_test = map(self.words.hidden_labels, (self.y, y_test))
        count = self.y.value_counts()
        self.rare = count.index[-1]
        self.wanted = int(count.iloc[0]) # as many new rows as the largest class has
        self.unseen = X_test[y_test == self.rare]

def judge(sampler, problem, seed):
    "TapTap's classifier, fitted to the training rows: tells which rows of the model are of a class."
    row_model = sampler.row_model_
    trees = HistGradientBoostingClassifier(random_state=seed)
    model = make_pipeline(FunctionTransformer(sampler.schema_.numeric), trees)
    codes = encode_column(row_model.columns[0], problem.y)
    fitted = fit_verifier(model, problem.X, codes, sampler.schema_, False, seed, 1)
    return partial(verify_rows, fitted, row_model, False)

def drawn(sampler, method, problem, fit, stop):
    "New rows of a cell, and what became of the candidates."
    model = sampler.row_model_
    label = sampler.label_code(problem.rare)
    s = sampler.settings
    classifier = None
    if method == "TapTap":
        classifier = judge(sampler, problem, fit.seed)
        s = replace(s, verify="classifier")
    source = Candidates(model, label, fit.seed, s, classifier=classifier)
    counts = Counter()
    by_feature = {}
    parts = []
    status = "ok"
    names = [c.name for c in model.columns]
    def draw(key, first, size):
        if time.time() > stop: raise OutOfTime
        rows, why = source(key, first, size)
        _, order, known = source._prompt(first, size, np.random.default_rng([fit.seed, label, *key]))
        prompted = order[:, known - 1]
        for j in np.unique(prompted):
            tally = by_feature.setdefault(str(names[j]), Counter())
            tally.update(drawn=int((prompted == j).sum()), accepted=int((why[prompted == j] == "").sum()))
        return rows, why
    try:
        with model.computing(s):
            for rows in accepted_rows(Halving(draw), problem.wanted, counts, model.batch_size, s.budget, key=(0,)):
                parts.append(decode_table(rows, model))
    except OutOfTime: status = "partial"
    except BudgetError as e: status = f"budget: {e}"
    rejected = {why: [model.text(ids) for ids in examples] for why, examples in source.examples.items()}
    record = dict(status=status, counts=counts, prompted=by_feature, rejected=rejected)
    return pd.concat(parts, ignore_index=True) if parts else None, record

def likelihood(sampler, problem, most=HELD_OUT):
    "Mean log-probability, in nats, of unseen rare rows given their label."
    rows = problem.unseen.iloc[:most]
    try:
        with sampler.row_model_.computing(sampler.settings):
            score = sampler.log_prob(rows, label=problem.rare, orders=2, handle_unknown="ignore", random_state=0)
    except ValueError as e: return dict(held_out_error=str(e)[:200]) # a permutation that never has the label first
    return dict(held_out_nats=float(score.mean()), held_out_rows=len(score), held_out_sd=float(score.std()))

def machine(device):
    "What the measurement was made with."
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return dict(version=__version__, device=name, torch=torch.__version__, transformers=transformers.__version__,
                date=time.strftime("%Y-%m-%d"))

def save_cell(path, new, record):
    "Write the rows of a cell, then its record."
    if new is not None:
        packed = gzip.compress(new.to_csv(index=False).encode())
        write_atomically(path.with_name(path.name + ".csv.gz"), lambda part: Path(part).write_bytes(packed))
    text = json.dumps(record, indent=1, default=float)
    write_atomically(path.with_name(path.name + ".json"), lambda part: Path(part).write_text(text))

def run_fit(fit, args, speed, stop):
    "Fine-tune a model, and sample the cells that there is time for."
    problem = Problem(fit)
    if args.most is not None: problem.wanted = min(problem.wanted, args.most)
    first = next(iter(fit.methods))
    llm = args.work / "llm" / ("random" if fit.weights == "random" else "pretrained")
    if fit.weights == "embedded": llm = "embedded"
    base = dict(fit=asdict(fit), q=problem.q, llm=args.llm, learning_rate=args.lr, batch_size=args.batch,
                workers=args.workers)
    base |= machine(args.device)
    reserve = speed.sampling(fit, problem.wanted) + 3
    watched = Watched(fit, speed, stop - reserve)
    rowmodel.finetune = finetuning.finetune if fit.weights == "embedded" else watched
    start = time.time()
    sampler = ImbLLM(llm=str(llm), **settings(fit, first, args.lr, args.device, args.batch)).fit(problem.X, problem.y)
    if fit.weights == "embedded": watched.record = dict(epochs=None, train_seconds=time.time() - start)
    base |= watched.record | dict(fit_seconds=time.time() - start) | likelihood(sampler, problem, args.held_out)
    for method in fit.methods:
        path = args.work / fit.name(method)
        if path.with_name(path.name + ".json").exists(): continue
        if method != first and time.time() + speed.sampling(fit, problem.wanted) > stop: break
        sampler.set_params(condition=fit.methods[method])
        start = time.time()
        new = None
        record = dict(status="likelihood only", counts={}, prompted={}, rejected={})
        if problem.wanted: new, record = drawn(sampler, method, problem, fit, min(stop, start + args.longest))
        if problem.words and new is not None: new = problem.words.shown(new)
        record |= dict(sample_seconds=time.time() - start, new_rows=0 if new is None else len(new), method=method,
                       wanted=problem.wanted, label=str(problem.rare))
        if args.device == "cuda": record["gpu_bytes"] = torch.cuda.max_memory_allocated()
        save_cell(path, new, base | record)
        print(f"{time.time() - args.begin:.0f} s: {path.name}, {record['status'][:60]}, {record['new_rows']} rows, "
              f"{base['epochs'] or 0:.1f} epochs, {base['train_seconds']:.0f} + {record['sample_seconds']:.0f} s",
              flush=True)

# --- workers ---

def finished(fit, work):
    "Are all cells of a model there?"
    return all((work / f"{fit.name(m)}.json").exists() for m in fit.methods)

def measured(path, llm):
    "Finished cells in the results: data set, method, seed and language model."
    if not path.exists(): return set()
    return set(pd.read_csv(path)[["dataset", "method", "seed", "llm"]].itertuples(index=False, name=None))

def named(llm, weights="pretrained"):
    "What results call a language model."
    ends = dict(random=", random weights", nonsense=", nonsense names")
    return "embedded" if weights == "embedded" else Path(llm).stem + ends.get(weights, "")

def claim(fit, work):
    "Take a model before others do."
    try: os.close(os.open(work / "claims" / fit.name(), os.O_CREAT | os.O_EXCL))
    except FileExistsError: return False
    return True

def failed(fit, work, error):
    text = json.dumps(dict(fit=asdict(fit), error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc()))
    write_atomically(work / f"failed_{fit.name()}.txt", lambda part: Path(part).write_text(text))

def worker(args):
    "Take one model after the other from the list until the time is over."
    torch.set_num_threads(args.threads)
    speed = Speed(args.work, args.floor, args.rate, args.longest)
    stop = args.begin + args.until - args.margin
    for fit in args.fits:
        if time.time() > stop - 5: break
        if finished(fit, args.work) or not claim(fit, args.work): continue
        try: run_fit(fit, args, speed, stop)
        except OutOfTime as e: print(f"not begun: {fit.name()}: {e}", flush=True)
        except Exception as e:
            print(f"failed: {fit.name()}: {type(e).__name__}: {str(e)[:300]}", flush=True)
            failed(fit, args.work, e)
            if "CUDA" in str(e): os._exit(1) # nothing works any more in this process
        if args.device == "cuda": torch.cuda.empty_cache()

def pack(work, out):
    "All cells in at most three tar files, each written whole or not at all."
    out.mkdir(parents=True, exist_ok=True)
    parts = [[]]
    size = 0
    for path in sorted(p for p in work.iterdir() if p.is_file() and p.name[0] != "." and p.suffix != ".tar"):
        more = path.stat().st_size + 1024
        if size + more > PART and len(parts) < 3:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += more
    def write(files, target):
        with tarfile.open(target, "w") as tar:
            for path in files: tar.add(path, arcname=path.name)
    for i, files in enumerate(parts, 1): write_atomically(out / f"pretrained-{i}.tar", partial(write, files))

def prepare(args):
    "The language models as folders, which load fast, and the cells of earlier runs."
    (args.work / "claims").mkdir(parents=True, exist_ok=True)
    for path in (args.work / "claims").iterdir(): path.unlink()
    for path in args.unpack:
        with tarfile.open(path) as tar: tar.extractall(args.work, filter="data")
    folder = args.work / "llm"
    if (folder / "random" / "config.json").exists(): return
    model, tokenizer = load_llm(args.llm)
    for name in ("pretrained", "random"):
        if name == "random":
            torch.manual_seed(0) # this process does nothing else
            model = transformers.AutoModelForCausalLM.from_config(model.config)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)

def rows(args):
    "Run the workers until the time is over; pack what they leave."
    args.fits = args.list(args)
    there = measured(RESULTS / "pretrained.csv", args.llm)
    args.fits = [f for f in args.fits if args.again or f.rare or not all(
        (f.dataset, m, f.seed, named(args.llm, f.weights)) in there for m in f.methods)]
    if args.cells: args.fits = [f for f in args.fits if any(c in f.name() or f.name(m).startswith(c)
                                                            for c in args.cells for m in f.methods)]
    prepare(args)
    print(f"{time.time() - args.begin:.0f} s: ready, {len(args.fits)} models to fit", flush=True)
    context = multiprocessing.get_context("spawn")
    def start():
        process = context.Process(target=worker, args=(args,), daemon=True)
        process.start()
        return process
    processes = [start() for _ in range(args.workers)]
    restarts = 3
    packed = time.time()
    end = args.begin + args.until
    while any(p.is_alive() for p in processes) and time.time() < end - 3:
        time.sleep(1)
        for i, p in enumerate(processes):
            if p.exitcode and restarts:
                restarts -= 1
                processes[i] = start()
        if time.time() - packed > 60:
            pack(args.work, args.out)
            packed = time.time()
    for p in processes:
        if p.is_alive(): p.terminate()
    pack(args.work, args.out)
    print(f"{time.time() - args.begin:.0f} s: {len(list(args.work.glob('*.json')))} cells", flush=True)

# --- evaluation ---

KEYS = ["dataset", "method", "seed", "q", "llm", "protocol"]
FACTS = ["status", "epochs", "updates", "updates_planned", "tokens", "learning_rate", "train_seconds", "sample_seconds",
         "loss_begin", "loss_end", "held_out_nats", "held_out_rows", "wanted", "device", "workers"]
REASONS = ["drawn", "accepted", "unfinished", "wrong columns", "wrong value", "other label", "not verified"]

def _cells(text, column):
    "Cells of a column from their texts."
    missing = text == "" if column.isna().any() else np.zeros(len(text), dtype=bool)
    if column.dtype == bool: return text == "True"
    if not pd.api.types.is_numeric_dtype(column): return text.mask(missing, np.nan).astype(column.dtype)
    return pd.Series(np.where(missing, "nan", text).astype(float), index=text.index).astype(column.dtype)

def read_rows(path, X):
    "New rows of a cell, with the dtypes of the table `X`."
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    return pd.DataFrame({c: _cells(text[c], X[c]) for c in X})

def facts(record, X):
    "What a record says about the making of its rows."
    numbers = [str(c) for c in X if pd.api.types.is_numeric_dtype(X[c])]
    prompted = record["prompted"]
    begun = sum(prompted[c]["accepted"] for c in numbers if c in prompted)
    counts = {reason.replace(" ", "_"): record["counts"].get(reason, 0) for reason in REASONS}
    status = record["status"].partition(":")[0] # the message of a budget has counts of its own
    made = dict(status=status, fit_packages=f"torch {record['torch']}, transformers {record['transformers']}")
    return {k: record.get(k) for k in FACTS} | made | counts | dict(accepted_behind_number=begun)

def as_cell(record, protocol):
    "What the rows of a record are measured as."
    from imbllm.benchmark import Cell
    fit = record["fit"]
    llm = named(record["llm"], fit["weights"])
    return Cell(fit["dataset"], record["method"], fit["seed"], record["q"], llm, protocol)

def scored(cell, record, path, relabelled=False):
    "A row of results."
    from imbllm.benchmark import measure_rows
    X, _ = load_dataset(cell.dataset)
    row = dict(classifier="xgboost", new_rows=record["new_rows"]) | facts(record, X)
    if not record["new_rows"]: return row
    found = measure_rows(cell, read_rows(path.with_suffix(".csv.gz"), X), relabelled)
    counts = {k: found[k] for k in ("new_rows", "valid")}
    return row | counts | found["scores"]["xgboost"] | found["diversity"]

def evaluate(args):
    "Score the rows of every cell by every protocol; what is in the files is not scored again."
    args.work.mkdir(parents=True, exist_ok=True)
    for path in args.unpack:
        with tarfile.open(path) as tar: tar.extractall(args.work, filter="data")
    records = [(file, json.loads(file.read_text())) for file in sorted(args.work.glob("*.json"))]
    evaluate_methods([r for r in records if r[1]["method"] != WORTH], args)
    evaluate_worth([r for r in records if r[1]["method"] == WORTH], args)

def evaluate_methods(records, args):
    "The cells of the paper's methods."
    from study import earlier, keys_of, save, stamped
    path = args.results / "pretrained.csv"
    done = keys_of(earlier(path, KEYS), KEYS)
    for file, record in records:
        names = [record["method"], *[RELABELLED] * (record["method"] == "GReaT")]
        for name, protocol in product(names, args.protocols):
            cell = replace(as_cell(record, protocol), method=name)
            key = {k: getattr(cell, k) for k in KEYS}
            if tuple(key.values()) in done: continue
            row = key | scored(cell, record, file, name == RELABELLED) | stamped("pretrained.py")
            save([row], path, KEYS, float_format="%.6g", sort=KEYS)
            print(*key.values(), row["status"][:40], row.get("paper_f1"), flush=True)

WORTH_KEYS = ["dataset", "finetune_on", "rare", "epochs", "batch_size", "start", "seed"]
WORTH_FACTS = ["status", "updates", "tokens", "learning_rate", "train_seconds", "sample_seconds", "loss_begin",
               "loss_end", "held_out_nats", "held_out_rows", "held_out_sd", "wanted", "device"]
WORTH_SCORES = ["paper_f1", "minority_f1", "average_precision", "roc_auc", "coverage", "precision", "copies"]

def evaluate_worth(records, args):
    "The cells of the study `worth`, and doing nothing on the same rows."
    from imbllm.benchmark import measure
    from study import earlier, keys_of, save, stamped
    path = args.results / "worth.csv"
    done = keys_of(earlier(path, WORTH_KEYS).astype(
        {k: int for k in ("rare", "epochs", "batch_size", "seed")}), WORTH_KEYS)
    def keep(key, found):
        kept = {k: v for k, v in found.items() if k in (*WORTH_FACTS, *WORTH_SCORES, "new_rows")}
        save([key | kept | stamped("pretrained.py worth")], path, WORTH_KEYS, float_format="%.6g", sort=WORTH_KEYS)
        print(*key.values(), found.get("held_out_nats"), found.get("average_precision"), flush=True)
        done.add(tuple(key.values()))
    for file, record in records:
        fit = record["fit"]
        cell = as_cell(record, "fixed")
        key = {k: fit[k] for k in ("dataset", "finetune_on", "rare", "epochs")}
        key |= dict(batch_size=record["batch_size"], start=fit["weights"], seed=fit["seed"])
        if tuple(key.values()) not in done: keep(key, record | scored(cell, record, file))
        nothing = key | dict(finetune_on="nothing", epochs=0, batch_size=0, start="nothing")
        if tuple(nothing.values()) not in done:
            keep(nothing, measure(replace(cell, method="Imbalance"))["scores"]["xgboost"])

def listed(args):
    "The models of `rows`."
    fits = priorities(args.tables)
    return fits if args.epochs is None else [replace(f, epochs=args.epochs) for f in fits if not f.rare]

def listed_worths(args):
    "The models of `worth`."
    chosen = args.rare, args.epochs or STEPS, args.starts, args.seeds, args.finetune_on
    return worths(args.tables or ["insurance", "german"], *chosen)

def rows_options(p, name, chosen):
    "Options of `rows` and of `worth`."
    p.set_defaults(run=rows, list=chosen)
    if name == "worth":
        p.add_argument("--rare", type=int, nargs="*", default=RARE, help="rare rows to learn from")
        p.add_argument("--epochs", type=int, nargs="*", help="lengths of the training; default: 1 to 50")
        p.add_argument("--starts", nargs="*", default=STARTS, choices=STARTS)
        p.add_argument("--seeds", type=int, nargs="*", default=[0])
        p.add_argument("--finetune-on", default="minor", choices=["minor", OURS[1]], dest="finetune_on")
    else: p.add_argument("--epochs", type=int, help="instead of the paper's 50; 0: as many as the time allows")
    p.add_argument("--again", action="store_true", help="run what results/pretrained.csv has, too")
    p.add_argument("--out", type=Path, required=True, help="folder of the tar files")
    p.add_argument("--work", type=Path, help="folder of the cells; default: cells in --out")
    p.add_argument("--unpack", type=Path, nargs="*", default=[], help="tar files of an earlier run")
    p.add_argument("--llm", default="smollm2")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--threads", type=int, default=2, help="of each worker, on the CPU")
    p.add_argument("--until", type=float, default=math.inf, help="seconds after the start at which all is over")
    p.add_argument("--margin", type=float, default=8, help="seconds before that at which a worker stops")
    p.add_argument("--floor", type=float, default=.08, help="seconds of an update, at least, before any is measured")
    p.add_argument("--rate", type=float, default=30000, help="tokens a second in training, before any is measured")
    p.add_argument("--longest", type=float, default=60, help="seconds of sampling that a cell gets, at most")
    p.add_argument("--lr", type=float, default=5e-5, help="learning rate")
    p.add_argument("--batch", type=int, default=32, help="rows of an update")
    p.add_argument("--held-out", type=int, default=HELD_OUT, dest="held_out", help="unseen rows to score, at most")
    p.add_argument("--most", type=int, help="new rows of a cell, at most; 0: likelihood only")
    p.add_argument("--tables", nargs="*", default=[])
    p.add_argument("--cells", nargs="*", default=[], help="beginnings of names: ImbLLM@paper_german GReaT ...")

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, chosen in (("rows", listed), ("worth", listed_worths)):
        rows_options(commands.add_parser(name), name, chosen)
    p = commands.add_parser("evaluate")
    p.set_defaults(run=evaluate)
    p.add_argument("--work", type=Path, required=True, help="folder of the cells")
    p.add_argument("--unpack", type=Path, nargs="*", default=[], help="tar files to be unpacked there first")
    p.add_argument("--protocols", nargs="*", default=["fixed", "published", "paper"])
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    args.begin = time.time()
    if hasattr(args, "work") and args.work is None: args.work = args.out / "cells"
    args.run(args)

if __name__ == "__main__": main()
