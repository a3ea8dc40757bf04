"""What a user's program with type hints looks like to mypy: `mypy tools/typed.py` must find nothing.

It is checked, never run.
"""
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from typing_extensions import assert_type

from imbllm import ImbLLM, Sampling, Training
from imbllm.metrics import close_probability, coverage, dcr
from imbllm.classifier import ImbLLMClassifier
from imbllm.oversampler import PredLLM
from imbllm.privacy import lira, membership_attack, privacy_scores
from imbllm.schema import Schema, infer_schema


def rebalanced(X: pd.DataFrame, y: pd.Series, seed: int | None = None) -> tuple[pd.DataFrame, pd.Series]:
    sampler = ImbLLM(
        preset="paper", temperature=.7, candidates=2, training=Training(checkpoint_dir=Path("runs")),
        random_state=seed, verbose=0)
    X_res, y_res = sampler.fit_resample(X, y)
    return X_res, y_res


def kept(X: pd.DataFrame, y: pd.Series, folder: Path) -> pd.DataFrame:
    assert_type(ImbLLM().fit(X, y), ImbLLM)
    PredLLM(sampling=Sampling(budget=50)).fit(X, y).save(folder, overwrite=True)
    sampler = ImbLLM.load(folder, device="cpu")
    assert_type(sampler, ImbLLM)
    assert_type(sampler.sample_stream(10**6, n_jobs=None), Iterator[pd.DataFrame])
    assert_type(sampler.label_proba(X, orders=2), np.ndarray)
    assert_type(sampler.log_prob(X, "rare", handle_unknown="ignore"), np.ndarray)
    rows: pd.DataFrame = sampler.sample(100, label="rare", given={"Age": (30, None)}, random_state=0)
    rows, passports = sampler.sample(100, passport=(X, y))
    assert_type(sampler.passport(rows, "rare", real=(X, y)), pd.DataFrame)
    filled: pd.DataFrame = sampler.impute(rows)
    return filled


def predicted(X: pd.DataFrame, y: pd.Series) -> np.ndarray:
    model = ImbLLMClassifier(sampler=ImbLLM(), weight=.3).fit(X, y)
    assert_type(model, ImbLLMClassifier)
    assert_type(model.predict_proba(X), np.ndarray)
    return model.predict(X)


def judged(new: pd.DataFrame, seen: pd.DataFrame, holdout: pd.DataFrame) -> dict[str, float]:
    schema = infer_schema(pd.concat([seen, holdout]))
    assert_type(schema, Schema)
    assert_type(dcr(new, seen, schema), np.ndarray)
    scores = {"close": close_probability(holdout, new), "coverage": coverage(holdout, new, k=2)}
    target = -dcr(seen, new, schema)
    scores_in = lira(target, target[None], np.zeros((1, len(target)), dtype=bool))
    attack = membership_attack(scores_in, -dcr(holdout, new, schema))
    return scores | attack | privacy_scores(new, seen, holdout, schema, random_state=0)
