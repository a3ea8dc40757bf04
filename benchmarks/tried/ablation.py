"""How well the embedded model learns a rare class, setting by setting: writes results/ablation.csv.

    python benchmarks/tried/ablation.py

On `make_income`, whose joint distribution is known: fine-tune on the minority of 6,000 rows, then measure on 1,500 fresh minority rows the mean negative log-likelihood (nats per row), and
how much it rises when the columns of those rows are shuffled independently (`dependence`, 0 for a model that knows marginals only). No classifier and no test table is involved.
"""
import functools, time
from pathlib import Path
from unittest.mock import patch
import numpy as np
import pandas as pd
import torch
from imbllm import ImbLLM
from imbllm.benchmark import stamp
from imbllm.datasets import INCOME_LABELS, income_log_prob, make_income
from imbllm.finetuning import row_loss
from imbllm.models import embedded_model
from imbllm.permutation import permute
from imbllm.serialization import TableTokenizer

RESULTS = Path(__file__).parents[2] / "results/ablation.csv"

class Digits(TableTokenizer):
    "Numbers spelled digit by digit in the table's own vocabulary."
    def _number_forms(self, col, bins): return [self._spelled(t) for t in col.texts[:col.n_present]]
    def _spelled(self, text): return tuple(self._place("digit", c) for c in text)

class BinDigits(Digits):
    "A bin, then the digits of the number."
    def _number_forms(self, col, bins): return [(f[0], *d) for f, d in zip(TableTokenizer._number_forms(self, col, bins), Digits._number_forms(self, col, bins))]

def model(**changes): return patch("imbllm.models.embedded_model", functools.partial(embedded_model, **changes))
def tokenizer(cls): return patch("imbllm.oversampler.TableTokenizer", cls)

SETTINGS = {
    "minority and interpolated rows": ({}, None), "interpolation='random'": (dict(interpolation="random"), None), "finetune_on='minor'": (dict(finetune_on="minor"), None),
    "numbers as digits": ({}, tokenizer(Digits)), "numbers as bin and digits": ({}, tokenizer(BinDigits)),
    "initial weights 0.02": ({}, model(initializer_range=.02)), "dropout 0.1": ({}, model(dropout=.1)), "tied head": ({}, model(tied=True)),
    "all rows in equal parts (the default)": (dict(finetune_on="major+minor+interpolate"), None),
}

def nats(sampler, codes, rng):
    "Mean negative log-likelihood of coded rows in random orders, nats per row."
    codec = sampler._codec
    ids, length = (torch.as_tensor(v) for v in codec.rows(codes, permute(len(codes), codes.shape[1] - 1, "fix_y", rng)))
    forced = torch.tensor(codec.tokenizer.names)
    with torch.no_grad(): loss = [row_loss(sampler.model_, i, n, forced).item() * int((~torch.isin(i, forced) & (torch.arange(i.shape[1]) < n[:, None]))[:, 1:].sum()) for i, n in zip(ids.split(250), length.split(250))]
    return sum(loss) / len(codes)

def main():
    X, y = make_income(6000, random_state=0)
    fresh, label = make_income(20_000, minority_share=.2, random_state=1)
    held = fresh[(label == INCOME_LABELS[1]).to_numpy() & np.logical_and.reduce([fresh[c].isin(set(X[c])) for c in X])][:1500]
    stamped = dict(command="python benchmarks/tried/ablation.py") | stamp()
    mix, rows = np.random.default_rng(0), [dict(setting="the true distribution", nats=-income_log_prob(held, INCOME_LABELS[1]).mean())]
    shuffled = held.apply(lambda c: mix.permutation(c.to_numpy()))
    for name, (arguments, change) in SETTINGS.items():
        for seed in [0, 1]:
            start, sampler = time.perf_counter(), ImbLLM(random_state=seed, verbose=0, **dict(finetune_on="minor+interpolate") | arguments)
            with change or patch.dict({}): sampler.fit(X, y)
            seconds, rng = time.perf_counter() - start, np.random.default_rng(seed)
            codes, mixed = (np.c_[np.full(len(t), 1), sampler.schema_.encode(t)] for t in [held, shuffled])
            own = nats(sampler, codes, rng)
            rows.append(dict(setting=name, seed=seed, nats=own, dependence=nats(sampler, mixed, rng) - own, fit_seconds=seconds))
            print(rows[-1], flush=True)
    pd.DataFrame(rows).assign(**stamped).to_csv(RESULTS, index=False, float_format="%.3f")

if __name__ == "__main__": main()
