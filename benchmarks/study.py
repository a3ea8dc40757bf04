"""Common parts of the studies in this folder: command line, files of results, cells that are measured once, scores of
new rows. Each other script is a grid over these."""
import argparse, io, json, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import pandas as pd
from xgboost import XGBClassifier

from imbllm.benchmark import load_table, run, stamp
from imbllm.datasets import train_test_cut
from imbllm.core import write_atomically
from imbllm.metrics import classification_scores
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results"

def arguments(doc, **defaults):
    """Arguments of the command line. The default sets the type of an option: a list takes any number of values, `True`
    or `False` none, and `Path` is a required folder. `--results` is where the CSV files are."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        option = dict(required=True, type=Path) if default is Path else dict(default=default)
        if isinstance(default, bool): option["action"] = "store_true"
        elif isinstance(default, list): option |= dict(nargs="*", type=type(default[0]))
        elif default not in (None, Path): option["type"] = type(default)
        parser.add_argument(f"--{name}", **option)
    if "jobs" not in defaults: parser.add_argument("--jobs", type=int, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    warnings.filterwarnings("ignore")
    return parser.parse_args()

def stamped(command):
    "Columns with the origin of a row; `command` is a script of this folder and its options."
    return dict(command=f"python benchmarks/{command}") | stamp()

def earlier(path, columns=()):
    "The rows that a file of results has, none if there is no such file."
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(columns))

def keys_of(frame, keys): return set(frame[keys].itertuples(index=False, name=None))

def _as_text(source): return pd.read_csv(source, dtype=str, keep_default_na=False)

def _natural(column):
    "Numbers as numbers, for sorting."
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().all() else numbers

def save(rows, path, keys, float_format="%.4f", sort=None):
    "Put rows into a file of results, in place of those with the same keys; the others stay as they are, to the digit."
    new = _as_text(io.StringIO(pd.DataFrame(rows).to_csv(index=False, float_format=float_format)))
    if path.exists():
        old = _as_text(path)
        other = [key not in keys_of(new, keys) for key in old[keys].itertuples(index=False, name=None)]
        new = pd.concat([old[other], new]).fillna("") # a new column is empty in old rows
    if sort: new = new.sort_values(sort, key=_natural, kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: new.to_csv(part, index=False))

def once(path, measure, *args):
    "The result of `measure`, ready for JSON, or that of an earlier run from its file."
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        record = measure(*args)
        write_atomically(path, lambda part: Path(part).write_text(json.dumps(record, indent=1, default=float)))
        print(path.stem, flush=True)
    return json.loads(path.read_text())

def run_grid(name, cells, out, jobs):
    "Run cells of `imbllm.benchmark`, and say which of them failed."
    failed = [r for r in run(cells, out, n_jobs=jobs) if r["status"] == "failed"]
    print(name, f"{len(cells)} cells", sep="\n  ", flush=True)
    for r in failed: print(f"  failed: {r['cell']['dataset']}, {r['cell']['method']}: {r['error']}", flush=True)

class Task:
    "A table of the paper, a fifth of the training minority kept, as rows and as numbers; classes are codes."
    def __init__(self, name, seed, q=.2, all_rows=True):
        X, y = load_table(name)
        self.X, self.X_test, self.y, self.y_test = train_test_cut(X, y, q=q, random_state=seed)
        self.seed = seed
        self.schema = infer_schema(X if all_rows else pd.concat([self.X, self.X_test], ignore_index=True))
        self.classes, count = np.unique(self.y, return_counts=True)
        self.rare = int(count.argmin())
        self.label = self.classes[self.rare]
        self.wanted = int(count.max() - count.min()) # rows that balance the classes
        self.code = np.searchsorted(self.classes, self.y)
        self.code_test = np.searchsorted(self.classes, self.y_test)
        self.Z = self.schema.numeric(self.X)
        self.Z_test = self.schema.numeric(self.X_test)

    def classifier(self, new=None, labels=None):
        "XGBoost, trained on the given rows and on new ones, which are rare unless `labels` says otherwise."
        Z, code = self.Z, self.code
        if new is not None:
            labels = np.full(len(new), self.rare) if labels is None else labels
            Z, code = np.r_[Z, self.schema.numeric(new)], np.r_[code, labels]
        return XGBClassifier(random_state=self.seed, n_jobs=1).fit(Z, code)

    def scores(self, new=None, labels=None):
        "Scores of that classifier on the test rows."
        return classification_scores(self.code_test, self.classifier(new, labels).predict_proba(self.Z_test), self.rare)

def apart(script, function, *args, **settings):
    "Call a function of a script in a separate process; its result, ready for JSON. Raises `RuntimeError`."
    task = json.dumps([function, args, settings])
    ran = subprocess.run([sys.executable, script, "--one", task], capture_output=True, text=True)
    if ran.returncode: raise RuntimeError(ran.stderr[-2000:])
    return json.loads(ran.stdout.splitlines()[-1])

def serve_one(task, functions):
    "What the other process does for `apart`."
    function, args, settings = json.loads(task)
    print("\n" + json.dumps(functions[function](*args, **settings)))
