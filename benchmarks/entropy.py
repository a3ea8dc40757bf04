"""The three propositions of the paper and one of our own on its ten tables: writes results/entropy.csv and results/entropy_settings.csv.

    IMBLLM_DATA=folder python benchmarks/entropy.py --out FOLDER [--seeds 0,1,2] [--tables german car ...] [--rows 1500]

Each cell, a table and a seed, fits six embedded models on a fifth of the training minority, estimates the entropies of what they write, and measures coverage and average precision of rows drawn in eleven settings. Cells lie in FOLDER and are not measured again.
An interval of a single cell covers the sampling of rows from models that are fitted; one over all tables (`table` is "all") is a bootstrap over tables, so it covers fits and tables. Entropies are in nats per row, under the order in which the row was written.
"""
import argparse, itertools, json, time, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from imbllm import ImbLLM
from imbllm.benchmark import CLASSIFIERS, stamp
from imbllm.datasets import dataset_names, load_dataset, train_test_cut
from imbllm.entropy import chosen_change, data_marginals, draw_rows, grid_entropy, interval, order_bounds, plug_in, prompt_change, verdict
from imbllm.core import write_atomically
from imbllm.metrics import Space, classification_scores, diversity_scores
from imbllm.schema import infer_schema
from imbllm.serialization import Rows

RESULTS, MOST = Path(__file__).parent.parent / "results", 3000
MODELS = {"minor": dict(finetune_on="minor"), "minor+interpolate": dict(finetune_on="minor+interpolate"), "minor+interpolate, permute_xy": dict(finetune_on="minor+interpolate", permutation="permute_xy"),
          "all": dict(finetune_on="major+minor"), "all, permute_xy": dict(finetune_on="major+minor", permutation="permute_xy"), "default": {}}
SETTINGS = [("minor", "y", 1.), ("minor+interpolate", "y", .7), ("minor+interpolate", "yx", .7), ("minor+interpolate", "y", 1.), ("minor+interpolate", "yx", 1.), ("minor+interpolate", "y", 1.3), ("minor+interpolate, permute_xy", "y", 1.),
            ("all", "y", 1.), ("all, permute_xy", "y", 1.), ("default", "yx", 1.), ("default, chosen", "yx", 1.)]
MEASURED = "I(rows; order), lower bound", "I(rows; order), upper bound", "4, divergence", "entropy and held_out", "entropy and copies" # numbers that no proposition is about
STEPS = {"1": [(("minor+interpolate", "yx", t), ("minor+interpolate", "y", t)) for t in (.7, 1.)], "2": [(("all", "y", 1.), ("all, permute_xy", "y", 1.)), (("minor+interpolate", "y", 1.), ("minor+interpolate, permute_xy", "y", 1.))],
         "3": [(("minor+interpolate", "y", 1.), ("minor", "y", 1.))], "4": [(("default", "yx", 1.), ("default, chosen", "yx", 1.))]}

def effects(models, n, seed):
    "Effect sizes with their intervals: proposition, setting, effect, low, high."
    mixed, drawn = models["minor+interpolate"], {}
    def nats(name, condition, temperature):
        key = name, condition, temperature
        if key not in drawn: drawn[key] = draw_rows(models[name], n, condition, temperature, random_state=1000 * seed + len(drawn))
        return drawn[key].nats
    for t in (.4, .7, 1., 1.3): yield "1", f"T {t:g}", *prompt_change(mixed, n, t, random_state=seed)["change"]
    yield "1", "default model, T 1", *prompt_change(models["default"], n, 1., random_state=seed)["change"]
    yield "1, values of all rows", "T 1", *prompt_change(models["all"], n, 1., given=data_marginals(models["all"], every=True), random_state=seed)["change"]
    for t in (.7, 1.):
        yield "1, Eq. 6 on average", f"T {t:g}", *interval(-draw_rows(mixed, n, "yx", t, random_state=seed).log_prob[:, 2:].sum(1), nats("minor+interpolate", "y", t))
        yield "2", f"all rows, T {t:g}", *interval(nats("all", "y", t), nats("all, permute_xy", "y", t))
        yield "3", f"T {t:g}", *interval(nats("minor+interpolate", "y", t), nats("minor", "y", t))
    yield "2", "minority rows, T 1", *interval(nats("minor+interpolate", "y", 1.), nats("minor+interpolate, permute_xy", "y", 1.))
    lower, upper = order_bounds(mixed, drawn["minor+interpolate", "y", 1.], random_state=seed)
    yield "I(rows; order), lower bound", "T 1", *interval(lower + drawn["minor+interpolate", "y", 1.].log_prob.sum(1))
    yield "I(rows; order), upper bound", "T 1", *interval(upper + drawn["minor+interpolate", "y", 1.].log_prob.sum(1))
    yield from critic(models["default"], n, seed)

def critic(model, n, seed):
    "What choosing one in four by the critic does: nats lost, separation gained, and the divergence from the candidates."
    rows = draw_rows(model, n, "yx", 1., random_state=seed)
    score = model.row_model_.log_odds(rows.rows, rows.label, np.random.default_rng(seed))
    for m, strength in ((4, .5), (4, 1.)):
        change = chosen_change(rows.log_prob.sum(1), score, strength, m)
        low, high = change["change"][1:]
        yield "4", f"strength {strength:g}, one in {m}", -change["change"][0], -high, -low
        yield "4, separation", f"strength {strength:g}, one in {m}", *change["separation"]
        yield "4, divergence", f"strength {strength:g}, one in {m}", *change["divergence"]

def sampled_entropies(schema, frame):
    "Entropies of rows from the rows alone: sum over columns and joint of the categories (Miller-Madow), and joint of the numbers on their grid."
    codes, ordered = schema.encode(frame), [c for c in schema.columns if c.ordered]
    each = sum(plug_in(codes[:, [j]]) for j in range(codes.shape[1]))
    categories = codes[:, [j for j, c in enumerate(schema.columns) if not c.ordered]]
    x = frame[[c.name for c in ordered]].to_numpy(dtype=float)
    x = x[~np.isnan(x).any(1)]
    varies = x.std(0) > 0
    return dict(marginals=each, categories=plug_in(categories) if categories.shape[1] else 0., numbers=grid_entropy(x[:, varies], 10. ** -np.array([max(c.decimals.max(), 0) for c in ordered])[varies]) if varies.any() else 0.)

def settings(models, data, n, seed, lost):
    "Entropy, coverage, average precision and more of rows drawn in each setting."
    X, y, X_test, y_test = data
    counts = y.value_counts()
    rare, schema = counts.index[-1], infer_schema(pd.concat([X, X_test], ignore_index=True))
    classes, space, unseen, seen = np.unique(y), Space(schema), X_test[y_test == rare], X[y == rare]
    Z, Z_test, code, code_test, k = schema.numeric(X), schema.numeric(X_test), np.searchsorted(classes, y), np.searchsorted(classes, y_test), int(np.searchsorted(classes, rare))
    new_rows = int(min(counts.iloc[0] - counts.iloc[-1], MOST))
    held = {name: -model.log_prob(unseen, rare, orders=2, handle_unknown="ignore", random_state=seed).mean() for name, model in models.items()} # at temperature 1
    for i, (name, condition, temperature) in enumerate(SETTINGS):
        model, chosen = models[name.partition(", chosen")[0]], name.endswith("chosen")
        nats = draw_rows(model, n, condition, temperature, random_state=1000 * seed + 500 + i).nats
        model.set_params(condition=condition, temperature=temperature, candidates=None if chosen else 1)
        start = time.perf_counter()
        frame = model.sample(new_rows, rare, random_state=seed)
        fit = CLASSIFIERS["xgboost"](seed).fit(np.r_[Z, schema.numeric(frame)], np.r_[code, np.full(len(frame), k)])
        scores, near = classification_scores(code_test, fit.predict_proba(Z_test), k), diversity_scores(frame, unseen, seen, space)
        yield dict(model=name, condition=condition, temperature=temperature, entropy=interval(nats)[0] - (lost if chosen else 0), new_rows=new_rows, **sampled_entropies(model.schema_, frame), held_out=held[name.partition(", chosen")[0]],
                   coverage=near["coverage"], copies=near["copies"], precision=near["precision"], average_precision=scores["average_precision"], minority_f1=scores["minority_f1"], seconds=time.perf_counter() - start)

def measure(table, seed, n):
    "Everything about a table and a seed, ready for JSON."
    start, (X, y) = time.perf_counter(), load_dataset(table)
    X, X_test, y, y_test = train_test_cut(X, y, q=.2, random_state=seed)
    models = {name: ImbLLM(random_state=seed, verbose=0, **more).fit(X, y) for name, more in MODELS.items()}
    fitted = time.perf_counter() - start
    found = [dict(zip(("proposition", "setting", "effect", "low", "high"), e)) for e in effects(models, n, seed)]
    lost = next(e["effect"] for e in found if e["proposition"] == "4")
    return dict(table=table, seed=seed, rows=n, minority=int(y.value_counts().iloc[-1]), effects=found, settings=list(settings(models, (X, y, X_test, y_test), n, seed, lost)), fit_seconds=fitted, seconds=time.perf_counter() - start) | stamp()

def over_tables(values, tables, statistic=np.mean, resamples=2000):
    "A statistic of a frame of values with a column `table`, and its 95 % interval by a bootstrap over tables."
    rng, groups = np.random.default_rng(0), [values[values.table == t] for t in tables]
    drawn = [statistic(pd.concat([groups[i] for i in rng.integers(len(groups), size=len(groups))])) for _ in range(resamples)]
    return statistic(values), *np.nanquantile(drawn, [.025, .975])

def summaries(effects, settings):
    "Means over tables, and rank correlations of entropy with coverage and average precision."
    tables = effects.table.unique()
    for (proposition, setting), part in effects.groupby(["proposition", "setting"], sort=False):
        means = part.groupby("table", as_index=False).effect.mean().rename(columns={"effect": "value"})
        yield dict(proposition=proposition, setting=setting, table="all", **dict(zip(("effect", "low", "high"), over_tables(means, tables, lambda f: f.value.mean()))))
    keys = ["table", "seed"]
    for what in ("coverage", "average_precision", "held_out", "copies"):
        within = pd.DataFrame([dict(zip(keys, key), value=spearmanr(part.entropy, part[what]).statistic) for key, part in settings.groupby(keys)])
        for table, part in within.groupby("table"): yield dict(proposition=f"entropy and {what}", setting="over settings", table=table, effect=part.value.mean())
        yield dict(proposition=f"entropy and {what}", setting="over settings", table="all", **dict(zip(("effect", "low", "high"), over_tables(within.groupby("table", as_index=False).value.mean(), tables, lambda f: f.value.mean()))))
        steps = step_changes(settings, what)
        yield dict(proposition=f"entropy and {what}", setting="over the propositions' steps", table="all", **dict(zip(("effect", "low", "high"), over_tables(steps, tables, lambda f: spearmanr(f.entropy, f.value).statistic))))

def step_changes(settings, what):
    "Change of the entropy and of a score from one setting of a proposition to the other, per table and seed."
    at = settings.set_index(["table", "seed", "model", "condition", "temperature"])
    return pd.DataFrame([dict(table=t, seed=s, proposition=p, entropy=at.entropy[(t, s, *a)] - at.entropy[(t, s, *b)], value=at[what][(t, s, *a)] - at[what][(t, s, *b)])
                         for t, s in settings[["table", "seed"]].drop_duplicates().itertuples(index=False) for p, pairs in STEPS.items() for a, b in pairs])

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--seeds", default="0,1,2"); args.add_argument("--tables", nargs="*", default=dataset_names()); args.add_argument("--rows", type=int, default=1500)
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for seed, table in itertools.product(map(int, args.seeds.split(",")), args.tables):
        path = out / f"{table}-{seed}-{args.rows}.json"
        if path.exists(): continue
        record = measure(table, seed, args.rows)
        write_atomically(path, lambda part: Path(part).write_text(json.dumps(record, indent=1, default=float)))
        print(f"{table}, seed {seed}: {record['fit_seconds']:.0f} s of fitting, {record['seconds']:.0f} s in all", flush=True)
    records = [json.loads(p.read_text()) for p in sorted(out.glob(f"*-{args.rows}.json"))]
    made = ["version", "packages", "machine", "date"]
    def rows(kind): return pd.DataFrame([dict(table=r["table"], seed=r["seed"]) | e | {k: r.get(k, "not recorded") for k in made} for r in records for e in r[kind]])
    found, drawn = rows("effects"), rows("settings")
    every = pd.concat([found, pd.DataFrame(summaries(found, drawn)).assign(**{k: found[k].max() for k in made})], ignore_index=True)
    every["verdict"] = [verdict(low, high) if pd.notna(low) and p not in MEASURED else "" for p, low, high in zip(every.proposition, every.low, every.high)]
    command = f"python benchmarks/entropy.py --rows {args.rows}"
    every = every.assign(command=command)[["proposition", "table", "seed", "setting", "effect", "low", "high", "verdict", "command", *made]].astype({"seed": "Int64"})
    every.to_csv(RESULTS / "entropy.csv", index=False, float_format="%.4f")
    drawn.assign(command=command).to_csv(RESULTS / "entropy_settings.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
