"""What new rows give away of the rows that a method saw: writes results/privacy.csv.

    IMBLLM_DATA=folder python benchmarks/privacy.py [--tables german ...] [--seeds 0 1 2] [--methods ImbLLM ...]

The minority rows of a table are split in two halves at random: members, which the method sees together with all other rows, and a hold-out that it never sees. Each method rebalances the table, and its new rows are compared with both halves
(`imbllm.privacy.privacy_scores`). Of a language model the attacker also has the model itself: `loss_*` are the figures of the attack by log-likelihood, averaged over 8 orders of the columns. RandomOver repeats members and nothing else: the worst case. Rows that are in the file already are not measured again.

    IMBLLM_DATA=folder python benchmarks/privacy.py --shadows 16 [--tables german car] [--seeds 0]

adds the likelihood-ratio attack on ImbLLM to those rows (`lira_*` offline, `lira_online_*` online): the attacker has all minority rows and all other ones, knows the settings, and trains so many models of his own, each on a random half of the minority rows.
"""
import argparse, time, warnings
from importlib.util import find_spec
from pathlib import Path
import numpy as np
import pandas as pd
from imbllm import ImbLLM
from imbllm.baselines import get_method
from imbllm.benchmark import decoded, stamp
from imbllm.datasets import load_dataset
from imbllm.metrics import Space
from imbllm.privacy import lira, membership_attack, privacy_scores
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results/privacy.csv"
METHODS = ["ImbLLM", "ImbLLM-plain", "SMOTE-NC", "CTGAN", "Swap50", "RandomOver"]

def halves(y, rare, seed):
    "Positions of the rows to train on, and of the rare ones among all rows that are members and that are held out."
    at = np.random.default_rng(seed).permutation(np.flatnonzero(y == rare))
    members, others = np.sort(at[:len(at) // 2]), np.sort(at[len(at) // 2:])
    return np.setdiff1d(np.arange(len(y)), others), members, others

def measure(name, seed, table):
    X, y = load_dataset(table)
    rare, schema = y.value_counts().idxmin(), infer_schema(X)
    train, members, others = halves(y, rare, seed)
    X_train, y_train, seen, holdout = (part.reset_index(drop=True) for part in (X.iloc[train], y.iloc[train], X.iloc[members], X.iloc[others]))
    method = get_method(name)
    sampler = method.make(random_state=seed, categorical=[j for j, c in enumerate(schema.columns) if not c.ordered])
    start = time.perf_counter()
    X_res, _ = sampler.fit_resample(schema.numeric(X_train) if method.on_numbers else X_train, y_train)
    new = decoded(schema, X_res[len(train):]) if method.on_numbers else X_res.iloc[len(train):].reset_index(drop=True)
    out = dict(dataset=table, method=name, seed=seed, members=len(seen), holdout=len(holdout), new_rows=len(new), seconds=time.perf_counter() - start) | privacy_scores(new, seen, holdout, Space(schema), random_state=seed)
    if isinstance(sampler, ImbLLM):
        out |= {f"loss_{k}": v for k, v in membership_attack(*(likelihoods(sampler, rows, rare) for rows in (seen, holdout))).items()}
    return out

def likelihoods(sampler, rows, rare): return sampler.log_prob(rows, rare, orders=8, handle_unknown="ignore", random_state=0)

def shadow_attack(seed, table, shadows):
    "The likelihood-ratio attack on the model of `measure('ImbLLM', seed, table)`."
    X, y = load_dataset(table)
    rare = y.value_counts().idxmin()
    train, members, others = halves(y, rare, seed)
    pool, start, rng = np.sort(np.r_[members, others]), time.perf_counter(), np.random.default_rng([seed, 1])
    inside = np.stack([np.isin(pool, rng.choice(pool, len(members), replace=False)) for _ in range(shadows)])
    def fitted(at, random_state): return get_method("ImbLLM").make(random_state=random_state).fit(X.iloc[at].reset_index(drop=True), y.iloc[at].reset_index(drop=True))
    target = likelihoods(fitted(train, seed), X.iloc[pool], rare)
    known = np.stack([likelihoods(fitted(np.setdiff1d(np.arange(len(y)), pool[~saw]), 1000 + k), X.iloc[pool], rare) for k, saw in enumerate(inside)])
    member, out = np.isin(pool, members), {}
    for name, scores in dict(lira=lira(target, known, inside), lira_online=lira(target, known, inside, online=True)).items(): out |= {f"{name}_{k}": v for k, v in membership_attack(scores[member], scores[~member]).items()}
    return out | dict(lira_shadows=shadows, lira_seconds=time.perf_counter() - start, lira_loss_auc=membership_attack(target[member], target[~member])["auc"])

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tables", nargs="+", default=["german", "sick", "insurance", "bank", "car"]); args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2]); args.add_argument("--methods", nargs="+", default=METHODS); args.add_argument("--shadows", type=int, default=0)
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    stamped = dict(command="python benchmarks/privacy.py") | stamp()
    for seed in args.seeds:
        for table in args.tables:
            if args.shadows:
                found, old = shadow_attack(seed, table, args.shadows), pd.read_csv(RESULTS)
                print(table, seed, {k: round(v, 3) for k, v in found.items()}, flush=True)
                old.loc[(old["dataset"] == table) & (old["method"] == "ImbLLM") & (old["seed"] == seed), list(found)] = list(found.values())
                old.to_csv(RESULTS, index=False, float_format="%.4f")
                continue
            for name in args.methods + ["ImbLLM(drop_copies=True)"] * (table == "car"): # elsewhere there are no copies to drop
                old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["dataset", "method", "seed"])
                if ((old["dataset"] == table) & (old["method"] == name) & (old["seed"] == seed)).any() or name == "CTGAN" and not find_spec("ctgan"): continue
                row = measure(name, seed, table) | stamped
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items() if k not in stamped}, flush=True)
                pd.concat([old, pd.DataFrame([row])]).to_csv(RESULTS, index=False, float_format="%.4f")

if __name__ == "__main__": main()
