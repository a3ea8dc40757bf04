"""Time and memory of the embedded default as tables grow: writes results/scaling.csv.

    python benchmarks/scaling.py [--axes "rows sampled" ...] [--sizes 1000 ...]

Along each axis one size grows and the rest stays. The axes are sampled rows (`make_income`, in a stream, one candidate
per row) and training rows. Others are columns (half of them numbers; 1,000 rows, 500 sampled) and values of one
categorical column (500 rows sampled). Each point is a separate process on one thread. It records processor seconds for
fitting and for sampling, which depend little on other work on the machine. It also records their peak memory beyond the
imports and the table. `columns, 150 rows` is the same with so few rows, a tenth of them rare. `text column` is a column
of texts, all different, beside four others. `fraud` is `make_fraud` with that many rows, 100 of them rare (492 in the
whole table). 20,000 rows are sampled as by default: a student of the critic chooses each from three candidates. `fraud,
balanced` is `fit_resample` of such a table, on all cores; its seconds are those of both together. `table` is the
paper's ten tables (the folder that IMBLLM_DATA names), with 2,000 sampled rows each. The size is the number of columns
with the label, because a field is a step.
"""
import resource
import time

import numpy as np
import pandas as pd

from imbllm import ImbLLM
from imbllm.benchmark import load_table
from imbllm.datasets import dataset_names, make_fraud, make_income
from study import apart, arguments, save, serve_one, stamped

AXES = {"rows sampled": [10**3, 10**4, 10**5], "rows trained on": [10**3, 10**4, 10**5],
        "columns": [5, 20, 50, 100, 200], "columns, 150 rows": [50, 200],
        "values of a column": [2, 100, 1000, 10_000, 100_000], "text column": [1000, 10_000],
        "fraud": [2000, 20_000, 284_807], "fraud, balanced": [20_000, 284_807],
        "table": dataset_names()}

def made(columns, values=5, rows=1000):
    "A table of so many columns, every other one a number, and its labels, of which one in ten is rare."
    rng = np.random.default_rng(0)
    y = pd.Series(np.where(rng.permutation(rows) < rows // 10, "rare", "common"), name="y")
    def column(j):
        if j % 2: return rng.normal(size=rows).round(2) + (y == "rare")
        return pd.Series(rng.permutation(np.arange(rows) % values)).map("v{}".format)
    return pd.DataFrame({f"c{j}": column(j) for j in range(columns)}), y

def fraud(rows):
    "The table of card fraud with so many rows."
    return make_fraud(rows, minority_share=(492 if rows == 284_807 else 100) / rows, random_state=0)

def with_texts(rows):
    "A table with a column of texts that are all different."
    X, y = made(4, rows=rows)
    return X.assign(note=[f"note {i:06d} of {i % 7}" for i in range(rows)]), y

def problem(axis, size):
    "Table, labels, and how many rows to sample."
    if axis == "table": return *load_table(size), 2000
    if axis == "rows sampled": return *make_income(2000, random_state=0), size
    if axis == "rows trained on": return *make_income(size, random_state=0), 500
    if axis == "columns": return *made(size), 500
    if axis == "columns, 150 rows": return *made(size, rows=150), 120
    if axis == "text column": return *with_texts(size), 500
    if axis == "fraud": return *fraud(size), 20_000
    if axis == "fraud, balanced": return *fraud(size), None
    return *made(4, size, max(2000, size)), 500

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 # GiB, as Linux counts

def balanced(X, y):
    "New rows and seconds of `fit_resample` with the defaults, on all cores."
    start = time.perf_counter()
    X_res, _ = ImbLLM(random_state=0, verbose=0, n_jobs=-1).fit_resample(X, y)
    return dict(rows=len(X_res) - len(X), seconds=time.perf_counter() - start)

def measure(axis, size):
    "One point of an axis, in this process."
    X, y, n = problem(axis, size)
    before = peak()
    if n is None: return dict(axis=axis, size=size) | balanced(X, y) | dict(gib=peak() - before)
    sampler = ImbLLM(random_state=0, verbose=0, n_jobs=1, candidates=None if axis == "fraud" else 1)
    start = time.process_time()
    sampler.fit(X, y)
    middle = time.process_time()
    rows = sum(map(len, sampler.sample_stream(n, random_state=0)))
    seconds = dict(fit_seconds=middle - start, sample_seconds=time.process_time() - middle, gib=peak() - before)
    if axis == "table": axis, size = f"table {size}", X.shape[1] + 1
    return dict(axis=axis, size=size, rows=rows) | seconds

def main():
    args = arguments(__doc__, axes=list(AXES), sizes=["all"], one="")
    if args.one: return serve_one(args.one, dict(measure=measure))
    path = args.results / "scaling.csv"
    for axis in args.axes:
        for size in [size for size in AXES[axis] if str(size) in args.sizes or args.sizes == ["all"]]:
            try: row = apart(__file__, "measure", axis, size)
            except RuntimeError as e: row = dict(axis=axis, size=size, error=str(e).splitlines()[-1])
            print(row, flush=True)
            if axis == "table" and "error" in row: continue # the table is missing, so its size is unknown
            keys = ["axis"] if axis == "table" else ["axis", "size"] # a table's size is not what it was named by
            save([row | stamped("scaling.py")], path, keys, "%.4g", sort=["axis", "size"])

if __name__ == "__main__": main()
