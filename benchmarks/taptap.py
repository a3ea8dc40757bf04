"""This package's TapTap compared with the published one: writes results/taptap.csv.

    IMBLLM_DATA=folder python benchmarks/taptap.py [--tables german adult sick bank] [--seeds 0 1 2]

Protocol as in `imbllm bench`: q = 0.2, XGBoost, the embedded model, and enough new rows to make the rarest class as
large as the largest. This package's TapTap has the label in its training text and in its prompt. A classifier checks
each row; rows that it does not label as minority are drawn again. Its scores on the same splits are in
`results/benchmark.csv`, and so are those of GReaT: the same model and prompt without the classifier. Here `variant` is

- `Imbalance`: no new rows;
- `kept under the classifier's label`: the model and the prompt of TapTap, but no row is rejected, and each row gets
  the label that the classifier gives it;
- `published`: likewise, and no feature is ever conditioned on a label, as in the published code, whose training text
  has no label at all. Here the label stands behind the features, where a causal model cannot look at it.

The classifier is XGBoost, trained on the same training rows. All variants use this package's decoding under the
grammar, spelling of numbers and temperature (0.7). The comparison has no published checkpoint, no repair of rows that
were cut off, and no published evaluation. Rows that are already in the file are not measured again.
"""
import time

import numpy as np
from sklearn.dummy import DummyClassifier

from imbllm import ImbLLM, TapTap
from study import Task, arguments, earlier, keys_of, save, stamped

KEPT = "kept under the classifier's label"
VARIANTS = ["Imbalance", KEPT, "published"]
KEYS = ["dataset", "seed", "variant"]
SCORES = "paper_f1", "minority_f1", "balanced_accuracy", "average_precision"

def sampler_of(variant, seed, rare):
    "The sampler of a variant, which keeps every row that it draws."
    common = dict(random_state=seed, sampling_strategy="minority", n_jobs=1, verbose=0)
    if variant == KEPT: return TapTap(verify="none", **common)
    accept = DummyClassifier(strategy="constant", constant=rare) # or rows with another label behind them were rejected
    return ImbLLM(condition="x", permutation="label_last", finetune_on="major+minor", temperature=.7, candidates=1,
                  verify=accept, **common)

def measure(task, variant):
    "Number of new rows of a variant, the share labelled as rare, and the scores of the classifier."
    if variant == "Imbalance": return dict(new_rows=0, minority_share=np.nan) | task.scores()
    sampler = sampler_of(variant, task.seed, task.rare).fit(task.X, task.y)
    new = sampler.sample(task.wanted, label=task.label, random_state=task.seed)
    labels = task.classifier().predict(task.schema.numeric(new))
    return dict(new_rows=task.wanted, minority_share=(labels == task.rare).mean()) | task.scores(new, labels)

def main():
    args = arguments(__doc__, tables=["german", "adult", "sick", "bank"], seeds=[0, 1, 2])
    path = args.results / "taptap.csv"
    for seed in args.seeds:
        for name in args.tables:
            task = Task(name, seed)
            done = keys_of(earlier(path, KEYS), KEYS)
            for variant in [v for v in VARIANTS if (name, seed, v) not in done]:
                start = time.perf_counter()
                found = measure(task, variant)
                row = dict(dataset=name, seed=seed, variant=variant, q=.2, llm="embedded")
                row |= {k: found[k] for k in ("new_rows", "minority_share", *SCORES)}
                row |= dict(seconds=time.perf_counter() - start)
                save([row | stamped("taptap.py")], path, KEYS)
                print(row, flush=True)

if __name__ == "__main__": main()
