"""The paper's tables and figures on its ten tables, every method and control: writes results/benchmark.csv, results/dcr.csv and results/tables.csv.

    IMBLLM_DATA=folder python benchmarks/paper.py --out FOLDER [--jobs N] [--studies "table II" ...]

Each study is a grid for `imbllm bench`; its cells lie in FOLDER and are not measured again, so that it can be stopped and gone on with. What FOLDER holds is written to the results, finished or not; cells of the
studies that FOLDER lacks stay in the results as they were.
CTGAN and TVAE need the extra `bench`.
"""
import argparse, warnings
from pathlib import Path
import pandas as pd
from imbllm.baselines import METHODS
from imbllm.benchmark import QUANTILES, STAMPED, grid, load_table, read_cell, results_frame, run, stamp
from imbllm.datasets import dataset_names
from imbllm.metrics import DIRECTIONS
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results"
SLOW = ["Pred-LLM", "LITO"] # reject most of what they write
OURS = ["ImbLLM", "ImbLLM-classifier"]
PLAIN = ["ImbLLM-plain", "ImbLLM-inter"]
TRAINED = ["TVAE", "TVAE-snapped", "CTGAN", "CTGAN-snapped", "GReaT", "TapTap"]
QUICK = [m for m in METHODS if m not in (*SLOW, *OURS, *PLAIN, *TRAINED)]
THREE = ("xgboost", "logistic", "forest")
FIGURE_7 = ["RandomOver", "Swap50", "AdaSyn", "SMOTE", "SMOTE-NC", "CTGAN", "GReaT", "TapTap", "ImbLLM", "ImbLLM-plain"]
FEW = ["german", "car", "insurance"]
COMMAND = "python benchmarks/paper.py"
DISTANCES = {"unseen": ("unseen", DIRECTIONS[0], "gower"), "seen": ("seen", DIRECTIONS[0], "gower"), # rows, direction and metric of what a cell's record calls so
             "from_unseen": ("unseen", DIRECTIONS[1], "gower"), "from_unseen_euclidean": ("unseen", DIRECTIONS[1], "euclidean")}

def studies():
    "Cells by study, the most wanted first."
    every = dataset_names()
    table_two = [c for methods in (QUICK + OURS + PLAIN + TRAINED, SLOW) for seed in range(3) for c in grid(every, methods, [seed], classifiers=THREE)]
    return {
        "table II": table_two,
        "table II, more seeds": [c for methods in (QUICK + OURS + PLAIN + TRAINED, SLOW) for seed in range(3, 10) for c in grid(every, methods, [seed])],
        "published protocol": grid(every, ["Original", "Imbalance", "Threshold-prior", "Swap50", "AdaSyn", "SMOTE", "SMOTE-NC", "SMOTE-snapped"], [0, 1, 2], protocol="published"),
        "figure 5": grid(FEW, [f"ImbLLM-plain(interpolation_ratio={r})" for r in (.1, .25, .5, .75)], [0, 1, 2]),
        "figure 6": grid(FEW, ["Imbalance", "Threshold-prior", "SMOTE-NC", "Swap50", "ImbLLM-plain", *OURS], [0, 1, 2], q=[.1, .4, .6, .8, 1.]),
        "figure 7": [c for c in table_two if c.dataset in ("gem_price", "german") and c.method in FIGURE_7 and c.seed == 0], # cells of table II
    }

def table_one():
    "What the ten tables are: one row each."
    for name in dataset_names():
        X, y = load_table(name)
        count, columns = y.value_counts(), infer_schema(X).columns
        yield dict(dataset=name, rows=len(X), features=X.shape[1], numeric=sum(c.ordered for c in columns), categorical=sum(not c.ordered for c in columns), classes=len(count),
                   minority=count.index[-1], minority_rows=count.iloc[-1], minority_share=count.iloc[-1] / len(X), code_of_minority=sorted(count.index).index(count.index[-1]))

def distances(out):
    "Figure 7 on two tables: quantiles of the distances from new rows to rows that the method saw and to those that it did not, and, as in the paper, from rows that it did not see to new ones."
    for cell in studies()["figure 7"]:
        record = read_cell(cell.path(out)) or {}
        made = {k: record.get(k, "not recorded") for k in STAMPED}
        for name, values in record.get("dcr", {}).items():
            rows, direction, metric = DISTANCES[name]
            what = dict(dataset=cell.dataset, method=cell.method, rows=rows, direction=direction, metric=metric)
            yield from (what | dict(quantile=q, distance=v, command=COMMAND) | made for q, v in zip(QUANTILES.round(2), values))

def with_earlier(results, path):
    "These results, and those of the studies' cells that only the file at `path` has."
    if not path.exists(): return results
    keys, cells = ["dataset", "method", "seed", "q", "protocol"], [c for cells in studies().values() for c in cells]
    wanted = pd.MultiIndex.from_tuples([tuple(getattr(c, k) for k in keys) for c in cells])
    both = pd.concat([pd.read_csv(path), results])
    both = both[pd.MultiIndex.from_frame(both[keys]).isin(wanted)]
    return both.drop_duplicates([*keys, "llm", "classifier"], keep="last").sort_values([*keys, "classifier"], ignore_index=True)

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--jobs", type=int); args.add_argument("--studies", nargs="*")
    args = args.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name, cells in studies().items():
        if args.studies is None or name in args.studies:
            failed = [r for r in run(cells, args.out, n_jobs=args.jobs) if r["status"] == "failed"]
            print(name, f"{len(cells)} cells", *(f"failed: {r['cell']['dataset']}, {r['cell']['method']}: {r['error']}" for r in failed), sep="\n  ", flush=True)
    results = with_earlier(results_frame(args.out).assign(command=COMMAND), RESULTS / "benchmark.csv")
    results.to_csv(RESULTS / "benchmark.csv", index=False, float_format="%.4f")
    pd.DataFrame(table_one()).assign(command=COMMAND, **stamp()).to_csv(RESULTS / "tables.csv", index=False, float_format="%.4f")
    new, old = pd.DataFrame(distances(args.out)), pd.read_csv(RESULTS / "dcr.csv") if (RESULTS / "dcr.csv").exists() else pd.DataFrame(columns=["dataset", "method"])
    pairs = ["dataset", "method"]
    old = old[~pd.MultiIndex.from_frame(old[pairs]).isin(pd.MultiIndex.from_frame(new.reindex(columns=pairs)))]
    pd.concat([old, new]).sort_values(pairs, kind="stable").to_csv(RESULTS / "dcr.csv", index=False, float_format="%.4g")

if __name__ == "__main__": main()
