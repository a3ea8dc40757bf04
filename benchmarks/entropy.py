"""The three propositions of the paper and one of our own on its ten tables.

    IMBLLM_DATA=folder python benchmarks/entropy.py --out FOLDER [--seeds 0 1 2] [--tables german car ...] [--rows 1500]

Writes results/entropy.csv and results/entropy_settings.csv. A cell is a table and a seed. It fits six embedded models
on a fifth of the training minority and estimates the entropies of their rows. It also measures coverage and average
precision of rows in eleven settings. FOLDER stores the cells, and finished ones are not measured again. An interval of
a single cell covers the sampling of rows from fitted models. An interval over all tables (`table` is "all") is a
bootstrap over tables, so it covers fits and tables. Entropies are in nats per row, under the order in which the row was
written.
"""
import json, time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from imbllm import ImbLLM
from imbllm.benchmark import STAMPED, stamp
from imbllm.datasets import dataset_names
from imbllm.entropy import (chosen_change, data_marginals, draw_rows, grid_entropy, interval, order_bounds, plug_in,
                            prompt_change, verdict)
from imbllm.metrics import Space, diversity_scores
from study import Task, arguments, once

MOST = 3000 # new rows
INTER = "minor+interpolate"
MODELS = {"minor": dict(finetune_on="minor"), INTER: dict(finetune_on=INTER),
          f"{INTER}, permute_xy": dict(finetune_on=INTER, permutation="permute_xy"),
          "all": dict(finetune_on="major+minor"),
          "all, permute_xy": dict(finetune_on="major+minor", permutation="permute_xy"), "default": {}}
SETTINGS = [("minor", "y", 1.), (INTER, "y", .7), (INTER, "yx", .7), (INTER, "y", 1.), (INTER, "yx", 1.),
            (INTER, "y", 1.3), (f"{INTER}, permute_xy", "y", 1.), ("all", "y", 1.), ("all, permute_xy", "y", 1.),
            ("default", "yx", 1.), ("default, chosen", "yx", 1.)]
MEASURED = ("I(rows; order), lower bound", "I(rows; order), upper bound", "4, divergence", "entropy and held_out",
            "entropy and copies") # numbers that no proposition is about
STEPS = { # the settings that a proposition compares
    "1": [((INTER, "yx", t), (INTER, "y", t)) for t in (.7, 1.)],
    "2": [(("all", "y", 1.), ("all, permute_xy", "y", 1.)), ((INTER, "y", 1.), (f"{INTER}, permute_xy", "y", 1.))],
    "3": [((INTER, "y", 1.), ("minor", "y", 1.))],
    "4": [(("default", "yx", 1.), ("default, chosen", "yx", 1.))]}

class DrawnOnce:
    "Rows of each model, drawn once for each setting."
    def __init__(self, models, n, seed):
        self.models = models
        self.n = n
        self.seed = seed
        self.drawn = {}

    def __call__(self, name, condition, temperature):
        key = name, condition, temperature
        if key not in self.drawn:
            seed = 1000 * self.seed + len(self.drawn)
            self.drawn[key] = draw_rows(self.models[name], self.n, condition, temperature, random_state=seed)
        return self.drawn[key]

def effects(models, n, seed):
    "Effect sizes with their intervals: proposition, setting, effect, low, high."
    rows = DrawnOnce(models, n, seed)
    yield from prompt_effects(models, n, seed)
    for t in (.7, 1.):
        fields = draw_rows(models[INTER], n, "yx", t, random_state=seed).log_prob[:, 2:]
        yield "1, Eq. 6 on average", f"T {t:g}", *interval(-fields.sum(1), rows(INTER, "y", t).nats)
        yield "2", f"all rows, T {t:g}", *interval(rows("all", "y", t).nats, rows("all, permute_xy", "y", t).nats)
        yield "3", f"T {t:g}", *interval(rows(INTER, "y", t).nats, rows("minor", "y", t).nats)
    plain = rows(INTER, "y", 1.)
    permuted = rows(f"{INTER}, permute_xy", "y", 1.)
    yield "2", "minority rows, T 1", *interval(plain.nats, permuted.nats)
    bounds = order_bounds(models[INTER], plain, random_state=seed)
    for side, bound in zip(("lower", "upper"), bounds):
        yield f"I(rows; order), {side} bound", "T 1", *interval(bound + plain.log_prob.sum(1))
    yield from critic(models["default"], n, seed)

def prompt_effects(models, n, seed):
    "Effects of the first proposition: a random feature in the prompt."
    def change(model, t, **more): return prompt_change(model, n, t, random_state=seed, **more)["change"]
    for t in (.4, .7, 1., 1.3): yield "1", f"T {t:g}", *change(models[INTER], t)
    yield "1", "default model, T 1", *change(models["default"], 1.)
    given = data_marginals(models["all"], every=True)
    yield "1, values of all rows", "T 1", *change(models["all"], 1., given=given)

def critic(model, n, seed):
    "Effects of the critic's choice of one in four: nats lost, separation gained, divergence from the candidates."
    drawn = draw_rows(model, n, "yx", 1., random_state=seed)
    score = model.row_model_.log_odds(drawn.rows, drawn.label, np.random.default_rng(seed))
    for strength in (.5, 1.):
        setting = f"strength {strength:g}, one in 4"
        change = chosen_change(drawn.log_prob.sum(1), score, strength, 4)
        effect, low, high = change["change"]
        yield "4", setting, -effect, -high, -low
        yield "4, separation", setting, *change["separation"]
        yield "4, divergence", setting, *change["divergence"]

def sampled_entropies(schema, frame):
    """Entropies of rows from the rows alone: sum over columns and joint of the categories (Miller-Madow), and joint of
    the numbers on their grid."""
    codes = schema.encode(frame)
    ordered = [c for c in schema.columns if c.ordered]
    categories = codes[:, [j for j, c in enumerate(schema.columns) if not c.ordered]]
    x = frame[[c.name for c in ordered]].to_numpy(dtype=float)
    x = x[~np.isnan(x).any(1)]
    varies = x.std(0) > 0
    step = 10. ** -np.array([max(c.decimals.max(), 0) for c in ordered])
    return dict(marginals=sum(plug_in(codes[:, [j]]) for j in range(codes.shape[1])),
                categories=plug_in(categories) if categories.shape[1] else 0.,
                numbers=grid_entropy(x[:, varies], step[varies]) if varies.any() else 0.)

def settings(models, task, n, lost):
    "Entropy, coverage, average precision and more of rows drawn in each setting."
    seed = task.seed
    unseen = task.X_test[task.y_test == task.label]
    seen = task.X[task.y == task.label]
    space = Space(task.schema)
    new_rows = min(task.wanted, MOST)
    def held_out(model): # at temperature 1
        return -model.log_prob(unseen, task.label, orders=2, handle_unknown="ignore", random_state=seed).mean()
    held = {name: held_out(model) for name, model in models.items()}
    for i, (name, condition, temperature) in enumerate(SETTINGS):
        fitted = name.partition(", chosen")[0]
        chosen = name.endswith("chosen")
        model = models[fitted]
        nats = draw_rows(model, n, condition, temperature, random_state=1000 * seed + 500 + i).nats
        model.set_params(condition=condition, temperature=temperature, candidates=None if chosen else 1)
        start = time.perf_counter()
        frame = model.sample(new_rows, task.label, random_state=seed)
        scores = task.scores(frame)
        near = diversity_scores(frame, unseen, seen, space)
        yield dict(model=name, condition=condition, temperature=temperature,
                   entropy=interval(nats)[0] - (lost if chosen else 0), new_rows=new_rows,
                   **sampled_entropies(model.schema_, frame), held_out=held[fitted],
                   **{k: near[k] for k in ("coverage", "copies", "precision")},
                   **{k: scores[k] for k in ("average_precision", "minority_f1")}, seconds=time.perf_counter() - start)

def measure(table, seed, n):
    "Everything about a table and a seed, ready for JSON."
    start = time.perf_counter()
    task = Task(table, seed, all_rows=False)
    models = {name: ImbLLM(random_state=seed, verbose=0, **more).fit(task.X, task.y) for name, more in MODELS.items()}
    fit_seconds = time.perf_counter() - start
    names = "proposition", "setting", "effect", "low", "high"
    found = [dict(zip(names, e)) for e in effects(models, n, seed)]
    lost = next(e["effect"] for e in found if e["proposition"] == "4")
    out = dict(table=table, seed=seed, rows=n, minority=int((task.y == task.label).sum()), effects=found)
    out |= dict(settings=list(settings(models, task, n, lost)), fit_seconds=fit_seconds)
    return out | dict(seconds=time.perf_counter() - start) | stamp()

def over_tables(values, tables, statistic=lambda f: f.value.mean(), resamples=2000):
    "A statistic of a frame of values with a column `table`, and its 95 % interval by a bootstrap over tables."
    rng = np.random.default_rng(0)
    groups = [values[values.table == t] for t in tables]
    def resampled(): return pd.concat([groups[i] for i in rng.integers(len(groups), size=len(groups))])
    low, high = np.nanquantile([statistic(resampled()) for _ in range(resamples)], [.025, .975])
    return dict(table="all", effect=statistic(values), low=low, high=high)

def summaries(effects, settings):
    "Means over tables, and rank correlations of entropy with coverage and average precision."
    tables = effects.table.unique()
    for (proposition, setting), part in effects.groupby(["proposition", "setting"], sort=False):
        means = part.groupby("table", as_index=False).effect.mean().rename(columns={"effect": "value"})
        yield dict(proposition=proposition, setting=setting) | over_tables(means, tables)
    for what in ("coverage", "average_precision", "held_out", "copies"):
        yield from correlations(settings, what, tables)

def correlations(settings, what, tables):
    "Of the entropy and a score, over settings within a table and seed, and over the steps of the propositions."
    keys = ["table", "seed"]
    within = pd.DataFrame([dict(zip(keys, key), value=spearmanr(part.entropy, part[what]).statistic)
                           for key, part in settings.groupby(keys)])
    common = dict(proposition=f"entropy and {what}")
    over = common | dict(setting="over settings")
    for table, part in within.groupby("table"): yield over | dict(table=table, effect=part.value.mean())
    yield over | over_tables(within.groupby("table", as_index=False).value.mean(), tables)
    def correlation(f): return spearmanr(f.entropy, f.value).statistic
    steps = over_tables(step_changes(settings, what), tables, correlation)
    yield common | dict(setting="over the propositions' steps") | steps

def step_changes(settings, what):
    "Change of the entropy and of a score from one setting of a proposition to the other, per table and seed."
    at = settings.set_index(["table", "seed", "model", "condition", "temperature"])
    def change(column, t, s, a, b): return at[column][(t, s, *a)] - at[column][(t, s, *b)]
    cells = settings[["table", "seed"]].drop_duplicates().itertuples(index=False)
    pairs = [(p, a, b) for p, both in STEPS.items() for a, b in both]
    return pd.DataFrame([dict(table=t, seed=s, proposition=p, entropy=change("entropy", t, s, a, b),
                              value=change(what, t, s, a, b)) for (t, s), (p, a, b) in product(cells, pairs)])

def frame_of(records, kind):
    "The effects or the settings of all cells."
    def made(r): return {k: r.get(k, "not recorded") for k in STAMPED}
    return pd.DataFrame([dict(table=r["table"], seed=r["seed"]) | e | made(r) for r in records for e in r[kind]])

def write(records, command, folder):
    "Both files of results."
    found = frame_of(records, "effects")
    drawn = frame_of(records, "settings")
    over_all = pd.DataFrame(summaries(found, drawn)).assign(**{k: found[k].max() for k in STAMPED})
    every = pd.concat([found, over_all], ignore_index=True).assign(command=command)
    judged = every.low.notna() & ~every.proposition.isin(MEASURED)
    every["verdict"] = [verdict(low, high) if ok else "" for ok, low, high in zip(judged, every.low, every.high)]
    columns = ["proposition", "table", "seed", "setting", "effect", "low", "high", "verdict", "command", *STAMPED]
    every = every[columns].astype({"seed": "Int64"})
    every.to_csv(folder / "entropy.csv", index=False, float_format="%.4f")
    drawn.assign(command=command).to_csv(folder / "entropy_settings.csv", index=False, float_format="%.4f")

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1, 2], tables=dataset_names(), rows=1500)
    for seed, table in product(args.seeds, args.tables):
        once(args.out / f"{table}-{seed}-{args.rows}.json", measure, table, seed, args.rows)
    records = [json.loads(p.read_text()) for p in sorted(args.out.glob(f"*-{args.rows}.json"))]
    write(records, f"python benchmarks/entropy.py --rows {args.rows}", args.results)

if __name__ == "__main__": main()
