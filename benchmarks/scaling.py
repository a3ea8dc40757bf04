"""Time and memory of the embedded default as tables grow: writes results/scaling.csv.

    python benchmarks/scaling.py [--axes "rows sampled" ...] [--sizes 1000 ...]

Along each axis one size grows and the rest stays: rows sampled (`make_income`, in a stream, one candidate per row),
rows trained on, columns (half of them numbers; 1,000 rows, 500 sampled), values of one categorical column (500 rows
sampled). Each point is a process of its own, on one thread: seconds of fitting and of sampling, and the most memory
that they held beyond the imports and the table. `table` is the paper's ten tables (the folder that IMBLLM_DATA names),
2,000 rows sampled of each, whose size is the mean length of a row in tokens, rounded.
"""
import resource
import time

import numpy as np
import pandas as pd

from imbllm import ImbLLM
from imbllm.benchmark import load_table
from imbllm.datasets import dataset_names, make_income
from study import apart, arguments, save, serve_one, stamped

AXES = {"rows sampled": [10**3, 10**4, 10**5, 10**6], "rows trained on": [10**3, 10**4, 10**5, 10**6],
        "columns": [5, 20, 50, 100, 200, 500], "values of a column": [2, 100, 1000, 10_000, 100_000],
        "table": dataset_names()}

def made(columns, values=5, rows=1000):
    "A table of so many columns, every other one a number, and its labels, of which one in ten is rare."
    rng = np.random.default_rng(0)
    y = pd.Series(np.where(rng.permutation(rows) < rows // 10, "rare", "common"), name="y")
    def column(j):
        if j % 2: return rng.normal(size=rows).round(2) + (y == "rare")
        return pd.Series(rng.permutation(np.arange(rows) % values)).map("v{}".format)
    return pd.DataFrame({f"c{j}": column(j) for j in range(columns)}), y

def problem(axis, size):
    "Table, labels, and how many rows to sample."
    if axis == "table": return *load_table(size), 2000
    if axis == "rows sampled": return *make_income(2000, random_state=0), size
    if axis == "rows trained on": return *make_income(size, random_state=0), 500
    if axis == "columns": return *made(size), 500
    return *made(4, size, max(2000, size)), 500

def tokens_per_row(sampler, X):
    "Mean length of the rows of a table, in tokens, with the label."
    codes = sampler.encode(X).codes
    order = np.tile(np.arange(codes.shape[1]), (len(codes), 1))
    _, _, length = sampler.row_model_.codec.pieces(codes, order)
    return float(length.sum(1).mean())

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 # GiB, as Linux counts

def measure(axis, size):
    "One point of an axis, in this process."
    X, y, n = problem(axis, size)
    before = peak()
    sampler = ImbLLM(random_state=0, verbose=0, candidates=1)
    start = time.perf_counter()
    sampler.fit(X, y)
    middle = time.perf_counter()
    rows = sum(map(len, sampler.sample_stream(n, random_state=0)))
    seconds = dict(fit_seconds=middle - start, sample_seconds=time.perf_counter() - middle, gib=peak() - before)
    if axis == "table": axis, size = f"table {size}", round(tokens_per_row(sampler, X))
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
            if axis == "table" and "error" in row: continue # the table is not at hand, so that its size cannot be told
            keys = ["axis"] if axis == "table" else ["axis", "size"] # a table's size in tokens may have changed
            save([row | stamped("scaling.py")], path, keys, "%.4g", sort=["axis", "size"])

if __name__ == "__main__": main()
