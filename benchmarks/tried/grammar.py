"""What the grammar changes: the same model sampled under it and freely, on `make_income`: writes results/grammar.csv.

    python benchmarks/tried/grammar.py

Fine-tune on whole sentences of the 300 minority rows of `make_income` (and of interpolated ones), then sample 2,000 rows under the grammar, and freely until 2,000 could be parsed. `unfinished`, `wrong_columns` and `wrong_value` are shares of
what was written freely. Two-sample tests: `auc` of XGBoost telling the two samples apart (five folds), `p` its permutation p-value (100 permutations), and `p_columns` the least p-value over the columns (Kolmogorov-Smirnov or
chi-squared), times their number. `nats` are mean negative log-probabilities under the true distribution: of fresh true rows, of rows under the grammar, and of free ones. `null` rows compare two samples under the grammar with each other.
"""
import time
from pathlib import Path
import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, ks_2samp
from sklearn.model_selection import StratifiedKFold, permutation_test_score
from xgboost import XGBClassifier
from imbllm import ImbLLM
from imbllm.benchmark import stamp
from imbllm.datasets import INCOME_LABELS, income_log_prob, make_income

RESULTS, N, RICH = Path(__file__).parents[2] / "results/grammar.csv", 2000, INCOME_LABELS[1]

def two_samples(a, b, schema, seed):
    "AUC of a classifier between two tables, its permutation p-value, and the least corrected p-value over columns."
    X, y = schema.numeric(pd.concat([a, b], ignore_index=True)), np.repeat([0, 1], [len(a), len(b)])
    model = XGBClassifier(n_estimators=30, max_depth=3, learning_rate=.2, n_jobs=1, random_state=seed)
    auc, _, p = permutation_test_score(model, X, y, scoring="roc_auc", cv=StratifiedKFold(5, shuffle=True, random_state=seed), n_permutations=100, random_state=seed)
    def column(c): return ks_2samp(a[c], b[c]).pvalue if a[c].dtype.kind in "if" else chi2_contingency(pd.crosstab(np.r_[a[c], b[c]], y)).pvalue
    return dict(auc=auc, p=p, p_columns=min(1, len(a.columns) * min(column(c) for c in a)))

def nats(X): return -income_log_prob(X, RICH).mean()

def main():
    X, y = make_income(6000, random_state=0)
    truth, labels = make_income(20_000, minority_share=.2, random_state=1)
    true_nats = nats(truth[labels == RICH])
    stamped = dict(command="python benchmarks/tried/grammar.py") | stamp()
    rows = []
    for seed in [0, 1, 2]:
        sampler = ImbLLM(random_state=seed, constrained=False, verbose=0).fit(X, y)
        for condition in ["y", "yx"]:
            sampler.set_params(condition=condition, constrained=False)
            start = time.perf_counter(); free = sampler.sample(N, random_state=0); middle, c = time.perf_counter(), sampler.counts_
            ruled = sampler.set_params(constrained=True).sample(N, random_state=1); end = time.perf_counter()
            again = sampler.sample(N, random_state=2)
            shares = {k.replace(" ", "_"): c[k] / c["drawn"] for k in ["unfinished", "wrong columns", "wrong value"]}
            common = dict(seed=seed, condition=condition, nats_true=true_nats)
            rows.append(dict(compares="grammar and free", **common, **shares, **two_samples(ruled, free, sampler.schema_, seed), nats_grammar=nats(ruled), nats_free=nats(free),
                             rows_per_second_free=N / (middle - start), rows_per_second_grammar=N / (end - middle)))
            rows.append(dict(compares="null: grammar and grammar", **common, **two_samples(ruled, again, sampler.schema_, seed), nats_grammar=nats(ruled)))
            print(rows[-2:], flush=True)
    pd.DataFrame(rows).assign(**stamped).to_csv(RESULTS, index=False, float_format="%.4f")

if __name__ == "__main__": main()
