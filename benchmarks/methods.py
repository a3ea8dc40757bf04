"""Table III, the other language-model methods and their verifications: writes results/methods.csv.

    IMBLLM_DATA=folder python benchmarks/methods.py [--tables german car insurance] [--seeds 0 1 2] [--studies "table III" method verification]
    IMBLLM_DATA=folder python benchmarks/methods.py --tables fuel gem_price housing bank credit_card adult sick --studies "table III"

Protocol as in `imbllm bench`; all methods share the embedded model. `study` is `table III` (the grid over prompt, order and rows), `method` (each preset) or `verification` (one model, label first or last, prompted with the
label, verified in four ways). `rejected` is the share of candidate rows that verification, or the choice among candidates, threw away. Where a method rejects more than its budget of 500 candidates per row, the row has `failed` 1 and no scores. Rows that are in the file already are not measured again.
"""
import argparse, time, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid
from xgboost import XGBClassifier
from imbllm import ImbLLM, GReaT, PredLLM, TapTap, LITO
from imbllm.baselines import fits
from imbllm.benchmark import stamp
from imbllm.candidates import BudgetError
from imbllm.datasets import load_dataset, train_test_cut
from imbllm.metrics import classification_scores
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results/methods.csv"
GRID = ParameterGrid(dict(condition=["y", "yx"], permutation=["permute_xy", "fix_y"], finetune_on=["major+minor", "minor", "minor+interpolate"]))
METHODS = {"ImbLLM": ImbLLM, "ImbLLM, plain": lambda **a: ImbLLM(finetune_on="minor+interpolate", **a), "GReaT": GReaT, "PredLLM": PredLLM, "TapTap": TapTap, "LITO": LITO, "LITO, plain": lambda **a: LITO(condition="y", **a)}

def samplers(seed):
    "Study, setting, sampler, and whether it shall be fitted: the next ones without are the same model with another verification."
    common = dict(random_state=seed, sampling_strategy="minority", n_jobs=1, verbose=0, budget=500)
    for setting in GRID: yield "table III", ", ".join(setting[k] for k in ("condition", "permutation", "finetune_on")), ImbLLM(**common, **setting, candidates=1), True
    for name, method in METHODS.items(): yield "method", name, method(**common), True
    one = LITO(condition="y", verify="classifier", **common)
    for verify in ["classifier", "label", "bayes", "none"]: yield "verification", verify, one.set_params(verify=verify), verify == "classifier"

def measure(name, seed, studies, done):
    "Rows of results for one table and seed."
    X, y = load_dataset(name)
    X_train, X_test, y_train, y_test = train_test_cut(X, y, q=.2, random_state=seed)
    classes, count = np.unique(y_train, return_counts=True)
    rare, n = int(count.argmin()), int(count.max() - count.min())
    encode, codes = infer_schema(X).numeric, np.searchsorted(classes, y_test)
    for study, setting, sampler, fresh in samplers(seed):
        if study not in studies or (study, setting, name, seed) in done: continue
        start = time.perf_counter()
        if fresh or not hasattr(sampler, "model_"): sampler.fit(X_train, y_train)
        middle, row = time.perf_counter(), dict(study=study, setting=setting, dataset=name, seed=seed, q=.2, llm="embedded", failed=0)
        try: new = sampler.sample(n, label=classes[rare], random_state=seed)
        except BudgetError: new = None; row["failed"] = 1
        seconds = time.perf_counter() - middle
        row |= dict(fit_seconds=middle - start if fresh else np.nan, sample_seconds=seconds, sampled_rows=n, rows_per_second=np.nan if new is None else n / seconds, drawn=sampler.counts_["drawn"],
                    rejected=1 - sampler.counts_["accepted"] / sampler.counts_["drawn"])
        if new is not None:
            labels = np.r_[np.searchsorted(classes, y_train), np.full(n, rare)]
            p = XGBClassifier(random_state=seed, n_jobs=1).fit(encode(pd.concat([X_train, new], ignore_index=True)), labels).predict_proba(encode(X_test))
            row |= classification_scores(codes, p, rare) | dict(valid=fits(encode(new), encode(X_train)).all(1).mean())
        yield row

COLUMNS = ["study", "setting", "dataset", "seed", "q", "llm", "failed", "fit_seconds", "sample_seconds", "sampled_rows", "rows_per_second", "drawn", "rejected", "paper_f1", "minority_f1", "average_precision", "valid",
           "command", "version", "packages", "machine", "date"]

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tables", nargs="+", default=["german", "car", "insurance"]); args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args.add_argument("--studies", nargs="+", default=["table III", "method", "verification"])
    args = args.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    stamped = dict(command="python benchmarks/methods.py") | stamp()
    for seed in args.seeds:
        for name in args.tables:
            old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)
            for row in measure(name, seed, args.studies, set(old[["study", "setting", "dataset", "seed"]].itertuples(index=False, name=None))):
                pd.DataFrame([row | stamped], columns=COLUMNS).to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False, float_format="%.4f")
                print({k: v for k, v in row.items() if k not in ("q", "llm")}, flush=True)

if __name__ == "__main__": main()
