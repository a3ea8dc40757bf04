"""The paper's tables and figures on its ten tables, every method and control.

    IMBLLM_DATA=folder python benchmarks/paper.py --out FOLDER [--jobs N] [--studies "table II" ...]

Writes results/benchmark.csv, results/dcr.csv and results/tables.csv. Each study is a grid for `imbllm bench`. FOLDER
stores its cells and finished ones are not measured again, so you can stop and resume it. The cells in FOLDER are
written to the results, even if the grid is unfinished. Results of cells that FOLDER lacks do not change. CTGAN and TVAE
need the extra `bench`.
"""
from pathlib import Path

import pandas as pd

from imbllm.baselines import METHODS
from imbllm.benchmark import QUANTILES, STAMPED, grid, load_table, read_cell
from imbllm.datasets import dataset_names
from imbllm.metrics import DIRECTIONS
from imbllm.results import results_frame
from imbllm.schema import infer_schema
from study import arguments, earlier, run_grid, stamped

SLOW = ["Pred-LLM", "LITO"] # reject most of what they write
OURS = ["ImbLLM", "ImbLLM-classifier"]
PLAIN = ["ImbLLM-plain", "ImbLLM-inter"]
TRAINED = ["TVAE", "TVAE-snapped", "CTGAN", "CTGAN-snapped", "GReaT", "TapTap"]
QUICK = [m for m in METHODS if m not in (*SLOW, *OURS, *PLAIN, *TRAINED)]
PUBLISHED = ["Original", "Imbalance", "Threshold-prior", "Swap50", "AdaSyn", "SMOTE", "SMOTE-NC", "SMOTE-snapped",
             "CTGAN", "TVAE", "GReaT", "TapTap", "TapTap(relabel=True)", "ImbLLM-plain", "ImbLLM", "Pred-LLM"]
FIGURE_6 = ["Imbalance", "Threshold-prior", "SMOTE-NC", "Swap50", "ImbLLM-plain", "CTGAN", *OURS]
FIGURE_7 = ["RandomOver", "Swap50", "AdaSyn", "SMOTE", "SMOTE-NC", "CTGAN", "GReaT", "TapTap", "ImbLLM", "ImbLLM-plain"]
FEW = ["german", "car", "insurance"]
MORE = ["fuel", "sick", "bank", "housing", "gem_price", "adult", "credit_card"]
SHARES = [.1, .4, .5, .6, .8, 1.] # of the training minority, besides .2
TWO = ["gem_price", "german"]
THREE = ("xgboost", "logistic", "forest")
COMMAND = "python benchmarks/paper.py"
KEYS = ["dataset", "method", "seed", "q", "protocol"]
DISTANCES = { # rows, direction and metric of what a cell's record calls so
    "unseen": ("unseen", DIRECTIONS[0], "gower"), "seen": ("seen", DIRECTIONS[0], "gower"),
    "from_unseen": ("unseen", DIRECTIONS[1], "gower"), "from_unseen_euclidean": ("unseen", DIRECTIONS[1], "euclidean")}

def every_method(seeds, **settings):
    "All methods on all tables, seed by seed, those that take longest at the end."
    groups = QUICK + OURS + PLAIN + TRAINED, SLOW
    return [c for methods in groups for s in seeds for c in grid(dataset_names(), methods, [s], **settings)]

def studies():
    "Cells by study, the most wanted first."
    table_two = every_method(range(3), classifiers=THREE)
    ratios = [f"ImbLLM-plain(interpolation_ratio={r})" for r in (.1, .25, .5, .75)]
    critic = [f"{method}(critic=language model)" for method in OURS]
    return {
        "table II": table_two,
        "table II, more seeds": every_method(range(3, 10)),
        "published protocol": grid(dataset_names(), PUBLISHED, [0, 1, 2], protocol="published"),
        "critic": [c for s in range(10) for c in grid(dataset_names(), critic, [s], classifiers=THREE)],
        "figure 5": grid(FEW + MORE, ratios, [0, 1, 2]),
        "figure 6": [c for tables in (FEW, MORE) for c in grid(tables, FIGURE_6, [0, 1, 2], q=SHARES)],
        "figure 7": [c for c in table_two if c.seed == 0 and c.dataset in TWO and c.method in FIGURE_7]}

def table_one():
    "What the ten tables are: one row each."
    for name in dataset_names():
        X, y = load_table(name)
        count = y.value_counts()
        rarest = count.index[-1]
        columns = infer_schema(X).columns
        numeric = sum(c.ordered for c in columns)
        yield dict(dataset=name, rows=len(X), features=X.shape[1], numeric=numeric, categorical=len(columns) - numeric,
                   classes=len(count), minority=rarest, minority_rows=count.iloc[-1],
                   minority_share=count.iloc[-1] / len(X), code_of_minority=sorted(count.index).index(rarest))

def distances(cells, out):
    """Figure 7: quantiles of the distances from new rows to seen and to unseen rows, and, as in the paper, from unseen
    rows to new ones."""
    for cell in cells:
        record = read_cell(cell.path(out)) or {}
        made = {k: record.get(k, "not recorded") for k in STAMPED}
        for name, values in record.get("dcr", {}).items():
            rows, direction, metric = DISTANCES[name]
            what = dict(dataset=cell.dataset, method=cell.method, rows=rows, direction=direction, metric=metric)
            for quantile, distance in zip(QUANTILES.round(2), values):
                yield what | dict(quantile=quantile, distance=distance, command=COMMAND) | made

def with_earlier(results, path, cells):
    "These results, and those of the cells that only the file at `path` has."
    if not path.exists(): return results
    wanted = pd.MultiIndex.from_tuples([tuple(getattr(c, k) for k in KEYS) for c in cells])
    both = pd.concat([pd.read_csv(path), results])
    both = both[pd.MultiIndex.from_frame(both[KEYS]).isin(wanted)]
    both = both.drop_duplicates([*KEYS, "llm", "classifier"], keep="last")
    return both.sort_values([*KEYS, "classifier"], ignore_index=True)

def write_distances(cells, out, path):
    "Put the distances of these cells into their file, in place of those of the same tables and methods."
    pairs = ["dataset", "method"]
    new = pd.DataFrame(distances(cells, out))
    old = earlier(path, pairs)
    old = old[~pd.MultiIndex.from_frame(old[pairs]).isin(pd.MultiIndex.from_frame(new.reindex(columns=pairs)))]
    both = pd.concat([old, new]).sort_values(pairs, kind="stable")
    both.to_csv(path, index=False, float_format="%.4g")

def main():
    args = arguments(__doc__, out=Path, studies=["all"], methods=["all"])
    cells = studies()
    wanted = list(cells) if args.studies == ["all"] else args.studies
    for name in wanted:
        some = [c for c in cells[name] if args.methods == ["all"] or c.method in args.methods]
        run_grid(name, some, args.out, args.jobs)
    path = args.results / "benchmark.csv"
    found = results_frame(args.out).assign(command=COMMAND)
    found = with_earlier(found, path, [c for part in cells.values() for c in part])
    found.to_csv(path, index=False, float_format="%.4f")
    tables = pd.DataFrame(table_one()).assign(**stamped("paper.py"))
    tables.to_csv(args.results / "tables.csv", index=False, float_format="%.4f")
    write_distances(cells["figure 7"], args.out, args.results / "dcr.csv")

if __name__ == "__main__": main()
