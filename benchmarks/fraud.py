"""The table of card fraud by this version and by an earlier one, in turns: adds to results/speed.csv.

    python benchmarks/fraud.py [--earlier FOLDER] [--rows 20000] [--rare 100] [--sampled 20000] [--repeats 1]

FOLDER is a checkout of an earlier commit. Each measurement is a separate process on one thread. It takes the seconds of
`fit` with the defaults, and the rows per second of `sample`, with the default's candidates and with one. The earlier
version writes a fortieth of the rows. A figure is the median over the repeats, and a ratio is the median of the ratios
of consecutive runs.
"""
import json, os, statistics, subprocess, sys, tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from imbllm.datasets import make_fraud
from speed import cpu
from study import arguments, save, stamped

HERE = Path(__file__).parents[1]
TASK = """
import json, sys, time, pandas as pd
from imbllm import ImbLLM
table = pd.read_pickle(sys.argv[1])
X, y = table.drop(columns="Class"), table.Class
start = time.perf_counter()
sampler = ImbLLM(random_state=0, verbose=0, n_jobs=1).fit(X, y)
found = dict(fit=time.perf_counter() - start)
n = int(sys.argv[2])
for what, k in ("default", None), ("candidates_1", 1):
    sampler.set_params(candidates=k)
    start = time.perf_counter()
    sampler.sample(n, random_state=0)
    found[what] = n / (time.perf_counter() - start)
print(json.dumps(found))
"""
WHAT = {key: f"fraud table beside an earlier version, {what}" for key, what in {
    "fit": "seconds of fit", "default": "rows per second",
    "candidates_1": "rows per second with one candidate"}.items()}

def measured(code, table, rows):
    "The figures of the code in a folder."
    env = os.environ | dict(PYTHONPATH=str(code), OMP_NUM_THREADS="1")
    ran = subprocess.run([sys.executable, "-c", TASK, table, str(rows)], env=env, cwd=Path(table).parent,
                         capture_output=True, text=True)
    if ran.returncode: raise RuntimeError(ran.stderr[-2000:])
    return json.loads(ran.stdout.splitlines()[-1])

def middle(values): return statistics.median(values)

def row(what, key, ours, earlier):
    "A figure of both versions, and how many times better ours is."
    out = dict(what=what, ours=middle(f[key] for f in ours))
    if not earlier: return out
    better = [(b[key] / a[key] if key == "fit" else a[key] / b[key]) for a, b in zip(ours, earlier)]
    return out | dict(peer=middle(f[key] for f in earlier), ratio=middle(better))

def main():
    args = arguments(__doc__, earlier="", rows=20_000, rare=100, sampled=20_000, repeats=1)
    ours, earlier = [], []
    with tempfile.TemporaryDirectory() as folder:
        table = f"{folder}/fraud.pkl"
        X, y = make_fraud(args.rows, minority_share=args.rare / args.rows, random_state=0)
        X.assign(Class=y).to_pickle(table)
        for _ in range(args.repeats):
            ours.append(measured(HERE, table, args.sampled))
            print("this version", ours[-1], flush=True)
            if not args.earlier: continue
            earlier.append(measured(args.earlier, table, max(100, args.sampled // 40)))
            print("the earlier one", earlier[-1], flush=True)
    rows = [row(what, key, ours, earlier) for key, what in WHAT.items()]
    versions = ", ".join(f"{p} {version(p)}" for p in ["torch", "transformers"])
    made = stamped("fraud.py") | dict(repeats=args.repeats, device="cpu", threads=1, versions=versions, machine=cpu())
    made.pop("version")
    save([r | made for r in rows], args.results / "speed.csv", ["what", "machine", "device"], "%.4g")
    print(pd.DataFrame(rows).to_string())

if __name__ == "__main__": main()
