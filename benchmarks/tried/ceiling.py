"""What rows of a perfect model would do: writes results/ceiling.csv.

    python benchmarks/tried/ceiling.py

On `make_income`, whose joint distribution is known, five in a hundred rows rare in training and test: XGBoost learns the table alone, with rows drawn anew from the *true* distribution of the rare class, with those of `ImbLLM`, with copies, and with swapped cells. No method that writes
rows can know more than the truth, so these are ceilings for all of them. `true rows, minority x 5` has four more real ones for each, which is what *Original* has over *Imbalance* elsewhere.
"""
import math, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from xgboost import XGBClassifier
from imbllm import ImbLLM
from imbllm.baselines import get_method
from imbllm.benchmark import stamp
from imbllm.candidates import choose
from imbllm.datasets import INCOME_LABELS, income_log_prob, make_income
from imbllm.metrics import classification_scores
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parents[2] / "results/ceiling.csv"
RARE, SHARE = INCOME_LABELS[1], .05

def true_rows(n, seed):
    "Rows of the rare class from the true distribution."
    X, y = make_income(math.ceil(n / .4), minority_share=.5, random_state=seed)
    return X[y == RARE].iloc[:n]

def chosen_true_rows(n, seed):
    "The default's choice, strength .5 among four, from true rows by the true log-odds."
    rows = true_rows(4 * n, seed)
    odds = np.subtract(*(np.nan_to_num(income_log_prob(rows, label), neginf=-50) for label in INCOME_LABELS[::-1]))
    return rows.iloc[choose(odds, n, .5, np.random.default_rng(seed))]

def main():
    warnings.filterwarnings("ignore")
    rows, stamped = [], stamp() | dict(command="python benchmarks/tried/ceiling.py")
    for few in (25, 100, 500):
        for seed in range(5):
            X, y = make_income(round(few / SHARE), minority_share=SHARE, random_state=seed)
            X_test, y_test = make_income(20_000, minority_share=SHARE, random_state=1000 + seed)
            n, schema = int((y != RARE).sum() - (y == RARE).sum()), infer_schema(pd.concat([X, X_test]))
            def new(sampler): return sampler.fit_resample(X, y)[0].iloc[len(X):]
            ways = {"nothing added": X.iloc[:0], "true rows, minority x 5": true_rows(4 * few, 2000 + seed), "true rows to balance": true_rows(n, 2000 + seed), "true rows to balance, chosen": chosen_true_rows(n, 2000 + seed),
                    "ImbLLM": new(ImbLLM(random_state=seed, verbose=0)), "ImbLLM(candidates=1)": new(ImbLLM(candidates=1, random_state=seed, verbose=0)),
                    **{name: new(get_method(name).make(random_state=seed, categorical=[], llm="embedded")) for name in ("Swap50", "RandomOver")}}
            for way, added in ways.items():
                Z, code = schema.numeric(pd.concat([X, added.astype(X.dtypes)])), np.r_[(y == RARE).astype(int), np.ones(len(added), dtype=int)]
                p = XGBClassifier(random_state=seed, n_jobs=1).fit(Z, code).predict_proba(schema.numeric(X_test))
                rows.append(dict(minority=few, seed=seed, way=way, rows=len(added)) | classification_scores((y_test == RARE).astype(int).to_numpy(), p, 1) | stamped)
            print(few, seed, flush=True)
            pd.DataFrame(rows).to_csv(RESULTS, index=False, float_format="%.4f")

if __name__ == "__main__": main()
