"""How much do new rows reveal of the rows that a method saw? Writes results/privacy.csv.

    IMBLLM_DATA=folder python benchmarks/privacy.py [--tables german ...] [--seeds 0 1 2] [--methods ImbLLM ...]

The minority rows of a table are split in two halves at random. The method sees the members together with all other
rows, and never sees the hold-out. Each method rebalances the table, and its new rows are compared with both halves
(`imbllm.privacy.privacy_scores`). The attacker of a language model also has the model itself. `loss_*` are the figures
of the attack by log-likelihood, averaged over 8 orders of the columns. RandomOver repeats members and nothing else: the
worst case. Rows that are in the file already are not measured again.

    IMBLLM_DATA=folder python benchmarks/privacy.py --shadows 16 [--tables german car] [--seeds 0]

adds the likelihood-ratio attack on ImbLLM to those rows (`lira_*` offline, `lira_online_*` online): the attacker has
all rows and knows the settings. The attacker trains that many models, each on a random half of the minority rows.
"""
import time
from importlib.util import find_spec

import numpy as np

from imbllm import ImbLLM
from imbllm.baselines import get_method
from imbllm.benchmark import decoded
from imbllm.datasets import load_dataset
from imbllm.metrics import Space
from imbllm.privacy import lira, membership_attack, privacy_scores
from imbllm.schema import infer_schema
from study import arguments, earlier, keys_of, save, stamped

METHODS = ["ImbLLM", "ImbLLM-plain", "SMOTE-NC", "CTGAN", "Swap50", "RandomOver"]
KEYS = ["dataset", "method", "seed"]

class Halves:
    "A table with the minority split into members and held-out rows."
    def __init__(self, table, seed):
        self.X, self.y = load_dataset(table)
        self.rare = self.y.value_counts().idxmin()
        at = np.random.default_rng(seed).permutation(np.flatnonzero(self.y == self.rare))
        self.members = np.sort(at[:len(at) // 2])
        self.others = np.sort(at[len(at) // 2:])
        self.train = np.setdiff1d(np.arange(len(self.y)), self.others)

    def rows(self, at): return self.X.iloc[at].reset_index(drop=True)
    def labels(self, at): return self.y.iloc[at].reset_index(drop=True)

def likelihoods(sampler, rows, rare):
    return sampler.log_prob(rows, rare, orders=8, handle_unknown="ignore", random_state=0)

def measure(name, seed, table):
    "What the new rows of a method, and its model if it has one, tell an attacker."
    halves = Halves(table, seed)
    X, y = halves.rows(halves.train), halves.labels(halves.train)
    seen = halves.rows(halves.members)
    holdout = halves.rows(halves.others)
    schema = infer_schema(halves.X)
    method = get_method(name)
    categorical = [j for j, c in enumerate(schema.columns) if not c.ordered]
    sampler = method.make(random_state=seed, categorical=categorical)
    start = time.perf_counter()
    X_res, _ = sampler.fit_resample(schema.numeric(X) if method.on_numbers else X, y)
    new = X_res[len(y):]
    new = decoded(schema, new) if method.on_numbers else new.reset_index(drop=True)
    out = dict(dataset=table, method=name, seed=seed, members=len(seen), holdout=len(holdout), new_rows=len(new))
    out |= dict(seconds=time.perf_counter() - start)
    out |= privacy_scores(new, seen, holdout, Space(schema), random_state=seed)
    if isinstance(sampler, ImbLLM):
        attack = membership_attack(*(likelihoods(sampler, rows, halves.rare) for rows in (seen, holdout)))
        out |= {f"loss_{k}": v for k, v in attack.items()}
    return out

def shadow_attack(seed, table, shadows):
    "The likelihood-ratio attack on the model of `measure('ImbLLM', seed, table)`."
    start = time.perf_counter()
    halves = Halves(table, seed)
    pool = np.sort(np.r_[halves.members, halves.others])
    rng = np.random.default_rng([seed, 1])
    inside = np.stack([np.isin(pool, rng.choice(pool, len(halves.members), replace=False)) for _ in range(shadows)])
    def known_to(at, random_state):
        sampler = get_method("ImbLLM").make(random_state=random_state).fit(halves.rows(at), halves.labels(at))
        return likelihoods(sampler, halves.X.iloc[pool], halves.rare)
    target = known_to(halves.train, seed)
    every = np.arange(len(halves.y))
    known = np.stack([known_to(np.setdiff1d(every, pool[~saw]), 1000 + k) for k, saw in enumerate(inside)])
    member = np.isin(pool, halves.members)
    out = {}
    for name, online in dict(lira=False, lira_online=True).items():
        scores = lira(target, known, inside, online=online)
        out |= {f"{name}_{k}": v for k, v in membership_attack(scores[member], scores[~member]).items()}
    loss = membership_attack(target[member], target[~member])["auc"]
    return out | dict(lira_shadows=shadows, lira_seconds=time.perf_counter() - start, lira_loss_auc=loss)

def add_attack(path, seed, table, shadows):
    "Put the figures of the likelihood-ratio attack into the row of ImbLLM that is in the file."
    found = shadow_attack(seed, table, shadows)
    rows = earlier(path, KEYS)
    rows = rows[(rows["dataset"] == table) & (rows["method"] == "ImbLLM") & (rows["seed"] == seed)]
    save(rows.assign(**found), path, KEYS)
    print(table, seed, found, flush=True)

def main():
    args = arguments(__doc__, tables=["german", "sick", "insurance", "bank", "car"], seeds=[0, 1, 2], methods=METHODS,
                     shadows=0)
    path = args.results / "privacy.csv"
    for seed in args.seeds:
        for table in args.tables:
            if args.shadows:
                add_attack(path, seed, table, args.shadows)
                continue
            copies = ["ImbLLM(drop_copies=True)"] if table == "car" else [] # elsewhere there are no copies to drop
            done = keys_of(earlier(path, KEYS), KEYS)
            for name in args.methods + copies:
                if (table, name, seed) in done or name == "CTGAN" and not find_spec("ctgan"): continue
                row = measure(name, seed, table)
                save([row | stamped("privacy.py")], path, KEYS)
                print(row, flush=True)

if __name__ == "__main__": main()
