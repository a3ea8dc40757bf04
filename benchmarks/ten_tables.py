"""The main job on the paper's ten tables, beside doing nothing and moving the threshold: writes results/benchmark.csv.

    IMBLLM_DATA=folder python benchmarks/ten_tables.py [--tables german car] [--seeds 0 1 2]

Protocol: stratified 80/20 split, the training minority cut to a fifth, default XGBoost, one ordinal encoder for training and test rows, the rarest class
topped up to the size of the largest. One thread. Rows that are in the file already are not measured again.
"""
import argparse, datetime, os, platform, time, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import OrdinalEncoder
from xgboost import XGBClassifier
import imbllm
from imbllm import ImbLLM
from imbllm.datasets import dataset_names, load_dataset, train_test_cut

RESULTS = Path(__file__).parent.parent / "results/benchmark.csv"

def encoder(X):
    "A function that turns tables like `X` into numbers."
    text = X.select_dtypes(exclude="number").columns
    codes = OrdinalEncoder().fit(X[text])
    return lambda T: np.c_[T.drop(columns=text).to_numpy(dtype=float), codes.transform(T[text])]

def scores(y, p, rare, threshold):
    "Paper's F1 (label code 1; weighted beyond two classes), minority F1 and average precision. `y` are codes, `p` probabilities."
    two = p.shape[1] == 2
    pred = np.where(p[:, rare] > threshold, rare, 1 - rare) if two else p.argmax(1)
    paper = f1_score(y, pred) if two else f1_score(y, pred, average="weighted")
    return dict(paper_f1=paper, minority_f1=f1_score(y == rare, pred == rare), average_precision=average_precision_score(y == rare, p[:, rare]))

def valid(new, old):
    "Share of rows of `new` that are complete, in `old`'s dtypes, with its categories and inside its ranges."
    inside = [new[c].between(old[c].min(), old[c].max()) if old[c].dtype.kind in "iuf" else new[c].isin(set(old[c])) for c in old]
    return np.logical_and.reduce(inside).mean() * (new.dtypes == old.dtypes).all()

def measure(name, seed):
    "Rows of results for one table and seed."
    X_train, X_test, y_train, y_test = train_test_cut(*load_dataset(name), q=.2, random_state=seed)
    classes, count = np.unique(y_train, return_counts=True)
    rare, code = int(count.argmin()), lambda y: np.searchsorted(classes, y)
    encode = encoder(pd.concat([X_train, X_test]))
    def fitted(X, y): return XGBClassifier(random_state=seed, n_jobs=1).fit(encode(X), code(y)).predict_proba(encode(X_test))
    plain = fitted(X_train, y_train)
    start = time.perf_counter()
    model = ImbLLM(random_state=seed, sampling_strategy="minority", n_jobs=1, verbose=0).fit(X_train, y_train)
    middle, n = time.perf_counter(), int(count.max() - count.min())
    new = model.sample(n, random_state=seed)
    end = time.perf_counter()
    old = X_train[(y_train == classes[rare]).to_numpy()]
    ours = fitted(pd.concat([X_train, new], ignore_index=True), np.r_[y_train, [classes[rare]] * n])
    extra = dict(fit_seconds=middle - start, sample_seconds=end - middle, sampled_rows=n, rows_per_second=n / (end - middle), valid=valid(new, X_train),
                 copies=len(new.merge(old.drop_duplicates())) / n)
    y = code(y_test)
    for method, p, threshold, more in [("imbalance", plain, .5, {}), ("thr_prior", plain, count[rare] / count.sum(), {}), ("ImbLLM", ours, .5, extra)]:
        yield dict(dataset=name, method=method, seed=seed, q=.2, llm="embedded" if more else "", **scores(y, p, rare, threshold), **more)

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tables", nargs="+", default=dataset_names()); args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = args.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    stamp = dict(command="python benchmarks/ten_tables.py", version=imbllm.__version__, machine=f"{platform.machine()}, {os.cpu_count()} cores", date=datetime.date.today().isoformat())
    for seed in args.seeds:
        for name in args.tables:
            done = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["dataset", "seed"])
            if ((done.dataset == name) & (done.seed == seed)).any(): continue
            rows = pd.DataFrame([row | stamp for row in measure(name, seed)])
            rows.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False, float_format="%.4f")
            print(rows.drop(columns=list(stamp)).to_string(index=False), flush=True)

if __name__ == "__main__": main()
