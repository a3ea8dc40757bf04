"""Table III, the other language-model methods and their verifications: writes results/methods.csv.

    IMBLLM_DATA=folder python benchmarks/methods.py [--tables german car insurance] [--seeds 0 1 2] [--studies ...]
    IMBLLM_DATA=folder python benchmarks/methods.py --tables fuel gem_price housing bank credit_card adult sick \
        --studies "table III"

Protocol as in `imbllm bench`; all methods share the embedded model. `study` is `table III` (the grid over prompt, order
and rows), `method` (each preset) or `verification`. The last is one model, label first or last, prompted with the
label, and verified in four ways. `rejected` is the share of candidate rows that verification, or the choice among
candidates, threw away. Where a method rejects more than its budget of 500 candidates per row, the row has `failed` 1
and no scores. Rows that are in the file already are not measured again.
"""
import time

import numpy as np
from sklearn.model_selection import ParameterGrid

from imbllm import GReaT, ImbLLM, LITO, PredLLM, TapTap, Sampling
from imbllm.baselines import fits
from imbllm.candidates import BudgetError
from study import Task, arguments, earlier, keys_of, save, stamped

ROWS = ["major+minor", "minor", "minor+interpolate"]
GRID = ParameterGrid(dict(condition=["y", "yx"], permutation=["permute_xy", "fix_y"], finetune_on=ROWS))
METHODS = {"ImbLLM": (ImbLLM, {}), "ImbLLM, plain": (ImbLLM, dict(finetune_on="minor+interpolate")),
           "GReaT": (GReaT, {}), "PredLLM": (PredLLM, {}), "TapTap": (TapTap, {}), "LITO": (LITO, {}),
           "LITO, plain": (LITO, dict(condition="y"))}
KEYS = ["study", "setting", "dataset", "seed"]
SCORES = "paper_f1", "minority_f1", "average_precision"

def samplers(seed):
    "Study, setting, sampler, and whether to fit it: the next ones without are the same model, verified otherwise."
    common = dict(random_state=seed, sampling_strategy="minority", n_jobs=1, verbose=0,
                  sampling=Sampling(budget=500))
    for g in GRID:
        setting = ", ".join((g["condition"], g["permutation"], g["finetune_on"]))
        yield "table III", setting, ImbLLM(**common, **g, candidates=1), True
    for name, (method, settings) in METHODS.items(): yield "method", name, method(**common, **settings), True
    one = LITO(condition="y", verify="classifier", **common)
    for verify in ["classifier", "label", "bayes", "none"]:
        yield "verification", verify, one.set_params(verify=verify), verify == "classifier"

def drawn(sampler, task):
    "New rows, None where the budget ran out, and what they cost."
    start = time.perf_counter()
    try: new = sampler.sample(task.wanted, label=task.label, random_state=task.seed)
    except BudgetError: new = None
    seconds = time.perf_counter() - start
    count = sampler.counts_
    rate = np.nan if new is None else task.wanted / seconds
    return new, dict(failed=int(new is None), sample_seconds=seconds, sampled_rows=task.wanted, rows_per_second=rate,
                     drawn=count["drawn"], rejected=1 - count["accepted"] / count["drawn"])

def measure(name, seed, studies, done):
    "Rows of results for one table and seed."
    task = Task(name, seed)
    for study, setting, sampler, fresh in samplers(seed):
        if study not in studies or (study, setting, name, seed) in done: continue
        start = time.perf_counter()
        if fresh or not hasattr(sampler, "model_"): sampler.fit(task.X, task.y)
        seconds = time.perf_counter() - start if fresh else np.nan
        new, cost = drawn(sampler, task)
        row = dict(study=study, setting=setting, dataset=name, seed=seed, q=.2, llm="embedded", fit_seconds=seconds)
        row |= cost
        if new is not None:
            scores = task.scores(new)
            row |= {k: scores[k] for k in SCORES} | dict(valid=fits(task.schema.numeric(new), task.Z).all(1).mean())
        yield row

def main():
    args = arguments(__doc__, tables=["german", "car", "insurance"], seeds=[0, 1, 2],
                     studies=["table III", "method", "verification"])
    path = args.results / "methods.csv"
    for seed in args.seeds:
        for name in args.tables:
            done = keys_of(earlier(path, KEYS), KEYS)
            for row in measure(name, seed, args.studies, done):
                save([row | stamped("methods.py")], path, KEYS)
                print(row, flush=True)

if __name__ == "__main__": main()
