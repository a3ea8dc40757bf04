"""Time and memory of the embedded default as tables grow: writes results/scaling.csv.

    python benchmarks/scaling.py [--axes "rows sampled" ...]

Along each axis one size grows and the rest stays: rows sampled (`make_income`, in a stream, one candidate per row), rows trained on, columns (half of them numbers; 1,000 rows, 500 sampled), values of one categorical column (500 rows sampled). Each
point is a process of its own, on one thread: seconds of fitting and of sampling, and the most memory that they held beyond the imports and the table. `table` is the paper's ten tables (the folder that IMBLLM_DATA names), 2,000 rows sampled of each, whose size is the mean length of a row in tokens, rounded.
"""
import argparse, json, resource, subprocess, sys, time
from pathlib import Path
import numpy as np
import pandas as pd
from imbllm import ImbLLM
from imbllm.benchmark import load_table, stamp
from imbllm.datasets import dataset_names, make_income

RESULTS = Path(__file__).parent.parent / "results/scaling.csv"
AXES = {"rows sampled": [10**3, 10**4, 10**5, 10**6], "rows trained on": [10**3, 10**4, 10**5, 10**6], "columns": [5, 20, 50, 100, 200, 500], "values of a column": [2, 100, 1000, 10_000, 100_000], "table": dataset_names()}

def made(columns, values=5, rows=1000):
    "A table of so many columns, every other one a number, and its labels, of which one in ten is rare."
    rng = np.random.default_rng(0)
    y = pd.Series(np.where(rng.permutation(rows) < rows // 10, "rare", "common"), name="y")
    def column(j): return rng.normal(size=rows).round(2) + (y == "rare") if j % 2 else pd.Series(rng.permutation(np.arange(rows) % values)).map("v{}".format)
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
    codec, codes = sampler._codec, np.c_[np.zeros(len(X), dtype="int64"), sampler.schema_.encode(X)]
    return float(codec.pieces(codes, np.tile(np.arange(codes.shape[1]), (len(codes), 1)))[2].sum(1).mean())

def measure(axis, size):
    X, y, n = problem(axis, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sampler = ImbLLM(random_state=0, verbose=0, candidates=1)
    start = time.perf_counter(); sampler.fit(X, y)
    middle = time.perf_counter()
    rows = sum(map(len, sampler.sample_stream(n, random_state=0)))
    out = dict(axis=axis, size=size, rows=rows, fit_seconds=middle - start, sample_seconds=time.perf_counter() - middle, gib=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
    return out | dict(axis=f"table {size}", size=round(tokens_per_row(sampler, X))) if axis == "table" else out

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--axes", nargs="*", default=list(AXES), choices=list(AXES)); args.add_argument("--one")
    args = args.parse_args()
    if args.one: print("\n" + json.dumps(measure(*json.loads(args.one)))); return
    stamped = dict(command="python benchmarks/scaling.py") | stamp()
    for axis in args.axes:
        for size in AXES[axis]:
            run = subprocess.run([sys.executable, __file__, "--one", json.dumps([axis, size])], capture_output=True, text=True)
            row = json.loads(run.stdout.splitlines()[-1]) if not run.returncode else dict(axis=axis, size=size, error=run.stderr.splitlines()[-1])
            print(row, flush=True)
            if axis == "table" and "error" in row: continue # the table is not at hand, so that its size cannot be told
            old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["axis", "size"])
            new = pd.concat([old[(old["axis"] != row["axis"]) | (old["size"] != row["size"]) & (axis != "table")], pd.DataFrame([row | stamped])])
            new.sort_values(["axis", "size"]).to_csv(RESULTS, index=False, float_format="%.4g")

if __name__ == "__main__": main()
