"""What each part of training and sampling is worth, and what was tried and is not built in: adds to results/speed.csv.

    python benchmarks/tried/parts.py --parts      rows per second with all but one part
    python benchmarks/tried/parts.py --tried      with one thing that is not built in, on a model without dropout

It takes parts out of the package by replacing its internals, so it runs with the package as it was (see README.md here), beside
benchmarks/speed.py of that time or of today. What cannot be more than a share of the tokens saved is counted.
"""
import argparse, os, sys, tempfile, time
from importlib import import_module
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parents[1]))
import joblib
import numpy as np
import torch
from torch.ao.quantization import quantize_dynamic
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.pytorch_utils import Conv1D
from imbllm import ImbLLM, finetuning, models, sampling
from imbllm.finetuning import Corpus
from imbllm.interpolation import Interpolation
from imbllm.serialization import Codec
from speed import AT_ONCE, TRAIN, make_model, train_ours, training_table, write
from study import RESULTS, apart, serve_one

PARTS = {"trimmed vocabulary": "training sampling", "bfloat16": "training sampling", "fused activation": "training sampling", "cheap masks of dropout": "training", "written-out attention": "training", "fused AdamW": "training",
         "rows of like length together": "training", "pieces end to end": "sampling"}
TRIED = {"compiled layers": "training", "8 rows at a time": "training", "128 rows at a time": "training", "32 rows at a time": "sampling", "512 rows at a time": "sampling", "a process per core": "sampling", "matrices in int8": "sampling",
         "every field guessed right": "sampling"}

def in_int8(model):
    "Let the matrices of a model be multiplied in eight bits, in place."
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, Conv1D):
                setattr(part, name, layer := torch.nn.Linear(*child.weight.shape))
                layer.weight.data, layer.bias.data = child.weight.data.T.contiguous(), child.bias.data
    quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)

def feed_fields(sampler, X, n):
    "Feed `n` rows, the label and then one whole field per step: decoding in which each guess at a value is right. Nothing is drawn."
    codec = sampler._codec
    codes = np.c_[np.zeros(n, dtype="int64"), sampler.schema_.encode(X.iloc[np.arange(n) % len(X)])]
    with sampler._computing(sampler._n_threads()):
        for rows in np.array_split(codes, -(-n // sampler._batch_size())):
            flat, start, length = codec.pieces(rows, np.tile(np.arange(codes.shape[1]), (len(rows), 1)))
            feeder = models.row_feeder(sampler.model_, len(rows), int(codec.longest().sum()) + 1)
            for s, size in zip(start.T, length.T): feeder.feed(np.concatenate([flat[a:a + k] for a, k in zip(s, size)]), size)

def arranged(part):
    "Leave a part of ours out, or put in what was tried, in this process; returns settings of the sampler."
    train = finetuning.finetune
    def compiled(model, *args, **kwargs):
        for layer in model.transformer.h: layer.compile(dynamic=True)
        return train(model, *args, **kwargs)
    if part == "compiled layers": finetuning.finetune = compiled
    if part.endswith("rows at a time"): ImbLLM._batch_size = lambda self: int(part.split()[0])
    if part == "matrices in int8": return dict(bf16=False)
    if part == "a process per core": joblib.Parallel(os.cpu_count())(joblib.delayed(import_module)("imbllm") for _ in range(os.cpu_count())) # they start
    if part == "trimmed vocabulary": Codec.kept_ids = lambda self: np.arange(len(self.tokenizer.tokenizer))
    if part == "rows of like length together": finetuning.WINDOW = 1
    if part == "fused AdamW":
        AdamW = torch.optim.AdamW
        torch.optim.AdamW = lambda *args, fused, **kwargs: AdamW(*args, **kwargs)
    if part == "pieces end to end": sampling.row_feeder = lambda model, n, longest: models.Padded(model, n)
    if part == "cheap masks of dropout": models.Dropout = torch.nn.Dropout
    if part == "written-out attention": models.SHORT = 0
    if part == "fused activation": models.NewGELUActivation = type(None)
    return dict(bf16=False) if part == "bfloat16" else {}

def with_part(part, kinds, folder, device):
    "Training and, if it is among the kinds, sampling of ours with all parts but one or with one more, in this process."
    (X, y), times, settings = training_table("german"), [], arranged(part)
    hook, training = register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter())), dict(TRAIN)
    if kinds == "training" and part.endswith("rows at a time"): training["batch_size"] = int(part.split()[0])
    sampler = train_ours(folder, device, X, y, **training, **settings)
    hook.remove()
    if part == "matrices in int8": in_int8(sampler.model_)
    start, n, jobs = time.perf_counter(), AT_ONCE if "sampling" in kinds else 1, None
    if part == "a process per core": jobs = os.cpu_count(); sampler.set_params(n_jobs=1)
    if part == "every field guessed right": feed_fields(sampler, X[:TRAIN["batch_size"] * TRAIN["steps"]], n)
    else: sampler.sample(n, random_state=0, n_jobs=jobs)
    return dict(train_rows=training["batch_size"] / np.median(np.diff(times)[1:]), sample_rows=n / (time.perf_counter() - start))

def counted(folder, device):
    "What cannot gain more than the tokens that it saves, by their count: padding that packed rows would not have (the paper's rows, minority and as many interpolated), and the label's prompt, computed once for all rows of a batch."
    (X, y), finetuning.finetune = training_table("german"), lambda *_, **__: finetuning.History() # counting needs no training
    sampler = train_ours(folder, device, X, y, batch_size=len(X), steps=1)
    codec, codes = sampler._codec, sampler.schema_.encode(X[y == y.value_counts().index[-1]])
    codes = np.c_[np.zeros(len(codes), dtype="int64"), codes]
    source = Interpolation(codec.columns, codes, False, None, [j for j, letters in enumerate(codec.char_ids) if letters])
    corpus = Corpus(codec, codes, source, len(codes), "fix_y", TRAIN["batch_size"], 0)
    batches = [corpus.batch(t) for t in range(corpus.per_epoch)]
    padded, real, label = sum(ids.size for ids, _ in batches), sum(int(n.sum()) for _, n in batches), int(codec.longest()[0])
    tokens = float(codec.rows(codes, np.tile(np.arange(codes.shape[1]), (len(codes), 1)))[1].mean())
    return dict(padded=padded / real, shared=tokens / (tokens - label))

def beside(kinds_of, how, folder, device):
    "Rows per second of ours, and with all but one part of it or with one more; ours before and after, because machines drift."
    def run(part): return apart(__file__, "with_part", part, kinds_of.get(part, "training sampling"), folder, device)
    rows, before = [], run("nothing")
    for part, kinds in kinds_of.items():
        other, after = run(part), run("nothing")
        for kind, key in [("training", "train_rows"), ("sampling", "sample_rows")]:
            if kind in kinds: rows.append(dict(what=f"{kind} {how} {part}", ours=(whole := (before[key] + after[key]) / 2), peer=other[key], ratio=whole / other[key] if how == "without" else other[key] / whole))
        before = after
        print(rows[-1], flush=True)
    return rows

def tried(folder, device):
    count = apart(__file__, "counted", folder, device)
    return beside(TRIED, "with", folder, device) + [dict(what="training with packed rows, at most", ratio=count["padded"]), dict(what="training or sampling with the label's prompt shared, at most", ratio=count["shared"])]

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ["--parts", "--tried"]: args.add_argument(flag, action="store_true")
    args.add_argument("--device", default="cpu"); args.add_argument("--repeats", type=int, default=3); args.add_argument("--one"); args.add_argument("--results", type=Path, default=RESULTS)
    args = args.parse_args()
    if args.one: return serve_one(args.one, dict(with_part=with_part, counted=counted))
    with tempfile.TemporaryDirectory() as folder:
        make_model(folder, .1 if args.parts else 0.)
        if args.parts: write(beside(PARTS, "without", folder, args.device), args, "tried/parts.py --parts")
        if args.tried: write(tried(folder, args.device), args, "tried/parts.py --tried")

if __name__ == "__main__": main()
