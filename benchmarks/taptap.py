"""TapTap as this package has it beside TapTap as it was published: writes results/taptap.csv.

    IMBLLM_DATA=folder python benchmarks/taptap.py [--tables german adult sick bank] [--seeds 0 1 2]

Protocol as in `imbllm bench`: q = 0.2, XGBoost, the embedded model, as many new rows as the largest class has more
than the rarest. This package's TapTap has the label in its training text and in its prompt; a classifier checks each
row, and rows that it does not label as minority are drawn again. Its scores on the same splits are in
`results/benchmark.csv`, and so are those of GReaT: the same model and prompt without the classifier. Here `variant`
is

- `Imbalance`: no new rows;
- `kept under the classifier's label`: the model and the prompt of TapTap, but no row is rejected, and each row gets
  the label that the classifier gives it;
- `published`: likewise, and no feature is ever conditioned on a label, as in the published code, whose training text
  has no label at all. Here the label stands behind the features, where a causal model cannot look at it.

The classifier is XGBoost, trained on the same training rows. Decoding under the grammar, the spelling of numbers and
the temperature (0.7) are this package's in all of them: the published checkpoint, the repair of rows that were cut
off, and the published evaluation are not in the comparison. Rows that are in the file already are not measured again.
"""
import argparse, time, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from xgboost import XGBClassifier
from imbllm import ImbLLM, TapTap
from imbllm.benchmark import STAMPED, stamp
from imbllm.datasets import load_dataset, train_test_cut
from imbllm.metrics import classification_scores
from imbllm.schema import infer_schema

RESULTS = Path(__file__).parent.parent / "results/taptap.csv"
KEPT = "kept under the classifier's label"
VARIANTS = ["Imbalance", KEPT, "published"]
MEASURED = ["dataset", "seed", "variant", "q", "llm", "new_rows", "minority_share", "paper_f1", "minority_f1",
            "balanced_accuracy", "average_precision", "seconds"]
COLUMNS = [*MEASURED, "command", *STAMPED]

def sampler_of(variant, seed, rare):
    "The sampler of a variant, which keeps every row that it draws."
    common = dict(random_state=seed, sampling_strategy="minority", n_jobs=1, verbose=0)
    if variant == KEPT: return TapTap(verify="none", **common)
    accept = DummyClassifier(strategy="constant", constant=rare) # or rows with another label behind them were rejected
    return ImbLLM(condition="x", permutation="label_last", finetune_on="major+minor", temperature=.7, candidates=1,
                  verify=accept, **common)

def measure(name, seed, done):
    "Rows of results for one table and seed."
    X, y = load_dataset(name)
    X_train, X_test, y_train, y_test = train_test_cut(X, y, q=.2, random_state=seed)
    classes, count = np.unique(y_train, return_counts=True)
    rare = int(count.argmin())
    n = int(count.max() - count.min())
    encode = infer_schema(X).numeric
    Z, Z_test = encode(X_train), encode(X_test)
    code, code_test = np.searchsorted(classes, y_train), np.searchsorted(classes, y_test)
    labeller = XGBClassifier(random_state=seed, n_jobs=1).fit(Z, code)
    for variant in VARIANTS:
        if (name, seed, variant) in done: continue
        start = time.perf_counter()
        model, labels = labeller, None
        if variant != "Imbalance":
            sampler = sampler_of(variant, seed, rare).fit(X_train, y_train)
            new = encode(sampler.sample(n, label=classes[rare], random_state=seed))
            labels = labeller.predict(new)
            model = XGBClassifier(random_state=seed, n_jobs=1).fit(np.r_[Z, new], np.r_[code, labels])
        row = dict(dataset=name, seed=seed, variant=variant, q=.2, llm="embedded", new_rows=0 if labels is None else n)
        row["minority_share"] = np.nan if labels is None else (labels == rare).mean()
        row |= classification_scores(code_test, model.predict_proba(Z_test), rare)
        yield row | dict(seconds=time.perf_counter() - start)

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tables", nargs="+", default=["german", "adult", "sick", "bank"])
    args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = args.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    made = dict(command="python benchmarks/taptap.py") | stamp()
    for seed in args.seeds:
        for name in args.tables:
            old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)
            done = set(old[["dataset", "seed", "variant"]].itertuples(index=False, name=None))
            for row in measure(name, seed, done):
                new = pd.DataFrame([row | made], columns=COLUMNS)
                new.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False, float_format="%.4f")
                print({k: row.get(k) for k in MEASURED}, flush=True)

if __name__ == "__main__": main()
