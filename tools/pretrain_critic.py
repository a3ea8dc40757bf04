"""Pre-train the network that classifies rows in context, on synthetic tables alone.

    python tools/pretrain_critic.py --out FOLDER/incontext.safetensors --minutes 8 --device cuda

Needs torch, numpy and safetensors, and `imbllm/tablenet.py` beside it, of which it imports nothing else. Tables are
drawn on the device, a batch at a time. Latent variables come from random networks, trees, clusters and products.
Columns are numbers, ordinals, categories, rounded, skewed, irrelevant or partly missing. The rare class has .5 to 50 %
of the rows. The schedule follows the wall clock, so that a run fills its minutes on any machine. Every half minute the
weights, their average and the optimizer go to FILE.state (`--resume` continues from there). The average goes to FILE,
in half precision. FILE with the ending .csv is the log. Memory that runs out halves the batch.

    python tools/pretrain_critic.py --speed --device cuda          tables a second for sizes of batches
"""
import argparse
import contextlib
import csv
import importlib.util
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

START = time.time() # minutes count from here

spec = importlib.util.spec_from_file_location("tablenet", Path(__file__).parent.parent/"imbllm"/"tablenet.py")
tablenet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tablenet)

# --- The prior: `B` tables of `N` rows at a time. In names of shapes, `P` is the latent variables, `F` the columns ---

def uniform(*shape, low=0., high=1.): return low + (high - low) * torch.rand(*shape)

def chance(p, *shape): return torch.rand(*shape) < p

def standard(x):
    "Every variable with mean 0 and variance 1 over rows, without infinities."
    x = x.nan_to_num(0, 1e4, -1e4).clamp(-1e4, 1e4)
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-4)

def choose(options, B, n, weights=None):
    "One of the options `(B, N, n)` for each table and variable, at random; tables differ in what they like."
    liking = torch.randn(B, 1, len(options)) * 1.5
    if weights: liking = liking + torch.tensor(weights).log()
    noise = -torch.log(-torch.log(torch.rand(B, n, len(options)).clamp(1e-6, 1 - 1e-6)))
    kind = (liking + noise).argmax(-1)[:, None]
    chosen = options[0]
    for i, option in enumerate(options[1:], 1): chosen = torch.where(kind == i, option, chosen)
    return chosen

def take(x, index):
    "Columns `index` `(B, n)` of `x` `(B, N, P)`."
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))

def roots(B, N, n):
    "Variables without causes: normal, flat, heavy-tailed, skewed, yes or no, in clusters of rows; some correlated."
    z = torch.randn(B, N, n)
    mix = torch.eye(n) + torch.randn(B, n, n) * (
        uniform(B, 1, 1, high=1.5) * chance(.5, B, 1, 1) / math.sqrt(n))
    z = standard(z @ mix)
    centres = torch.randn(B, 6, n) * uniform(B, 1, 1, low=.5, high=3)
    share = (torch.randn(B, 6) * 1.2).softmax(-1).cumsum(-1)
    cluster = torch.searchsorted(share, torch.rand(B, N)).clamp(max=5)
    clustered = centres.gather(1, cluster[..., None].expand(-1, -1, n)) + z
    heavy = z * torch.exp(uniform(B, 1, n, low=.3, high=1.2) * torch.randn_like(z))
    flat = torch.special.ndtr(z) * 3.4
    skewed = torch.exp(uniform(B, 1, n, low=.3, high=1.2) * z)
    yes = (z > torch.randn(B, 1, n)).float()
    return standard(choose([z, clustered, flat, heavy, skewed, yes], B, n, [4., 3., 2., 1., 1., 1.]))

def trees(x, n, depth):
    "Random oblivious trees on the variables: `n` values a row. Leaves are normal, or one leaf against the others."
    B, N, P = x.shape
    which = torch.randint(P, (B, n * depth))
    split = (take(x, which) > torch.randn(B, 1, n * depth) * .8).view(B, N, n, depth)
    used = chance(.75, B, 1, n, depth) # shallower trees too
    leaf = ((split & used) * 2 ** torch.arange(depth)).sum(-1)
    values = torch.randn(B, n, 2 ** depth)
    one = torch.zeros_like(values).scatter_(2, torch.randint(2 ** depth, (B, n, 1)), 3.)
    values = torch.where(chance(.4, B, n, 1), one, values)
    return values.gather(2, leaf.transpose(1, 2)).transpose(1, 2)

def sparse_weights(B, P, n):
    "Weights `(B, P, n)` of which a table's share is zero, one at least is not."
    share = (1.5 / P) ** torch.rand(B, 1, 1)
    kept = chance(share, B, P, n)
    kept = kept.scatter(1, torch.randint(P, (B, 1, n)), True)
    size = torch.exp(torch.randn(B, P, n) * uniform(B, 1, 1, high=1.))
    return torch.randn(B, P, n).sign() * size * kept

def effects(x, n, rng):
    "`n` new variables that depend on given ones: linear, bent, waved, cut, multiplied, or by trees and clusters."
    B, N, P = x.shape
    linear = standard(x @ sparse_weights(B, P, n))
    h = linear * torch.exp(torch.randn(B, 1, n) * .6) + torch.randn(B, 1, n) * .6
    pairs = take(x, torch.randint(P, (B, 2 * n))).view(B, N, 2, n)
    wave = torch.sin(h * uniform(B, 1, n, low=.5, high=3))
    bump = torch.exp(-h * h)
    cut = torch.sigmoid(h * 20)
    product = pairs[:, :, 0] * pairs[:, :, 1]
    corner = torch.minimum(*pairs.unbind(2))
    wood = trees(x, n, rng.randint(2, 4))
    options = [h, torch.tanh(h), F.relu(h), wave, h.abs(), bump, cut, product, corner, wood]
    h = standard(choose(options, B, n, [3., 2., 2., 1., 1., 1., 1., 1., 1., 3.]))
    size = uniform(B, 1, n) ** 3 * chance(.7, B, 1, 1)
    return standard(h + torch.randn(B, N, n) * size)

def latent(B, N, columns, rng):
    "All variables of a structural model, causes before effects, `(B, N, P)`, at least one more than columns."
    pool = roots(B, N, rng.randint(2, columns + 4))
    for _ in range(rng.randint(1, 3)): pool = torch.cat([pool, effects(pool, rng.randint(4, columns + 6), rng)], 2)
    lack = columns + 1 - pool.shape[2]
    return torch.cat([pool, roots(B, N, lack)], 2) if lack > 0 else pool

def codes_of(x, most, rng):
    "Cut every variable into categories `(B, N, F)` from 0, some of them rare, and their numbers `(B, 1, F)`."
    B, N, columns = x.shape
    count = (2 + torch.empty(B, 1, columns).exponential_(1 / rng.choice([1., 2.5, 5.]))).floor()
    count = torch.where(chance(.3, B, 1, columns), 2, count).clamp(max=most).long()
    size = torch.randn(B, most, columns) * uniform(B, 1, columns, high=2)
    size = size.masked_fill(torch.arange(most)[:, None] >= count, -30).softmax(1)
    ends = torch.special.ndtri(size.cumsum(1).clamp(1e-4, 1 - 1e-4)) # (B, most, F)
    code = sum((x > ends[:, None, i]).long() for i in range(most - 1))
    return torch.minimum(code, count - 1), count

def shuffled(code, count, most):
    "Codes in a random order of categories, as a reader of a table gives them."
    B, _, columns = code.shape
    key = torch.rand(B, most, columns)
    key = key.masked_fill(torch.arange(most)[:, None] >= count, 2)
    return key.argsort(1).argsort(1).gather(1, code)

def rounded(x, rng):
    "Rounded, counted, cut off, skewed or saturated versions of the variables, or themselves."
    B, N, n = x.shape
    step = torch.exp(uniform(B, 1, n, low=-1, high=3))
    shift = torch.randn(B, 1, n)
    power = torch.exp(torch.randn(B, 1, n) * .5)
    options = [x, (x * step).round(), F.relu(x - shift), torch.exp(x.clamp(-6, 6) * uniform(B, 1, n, high=1.5)),
               x.sign() * x.abs() ** power, torch.minimum(x, shift + 1), torch.exp(x.clamp(-4, 4)).round()]
    return choose(options, B, n, [4., 3., 1., 1., 1., .5, 1.])

def causes_of_label(X, pool, left, rng):
    "What the label may depend on, a list of `(B, N, 1)`: a latent variable, or a function of the columns."
    B, N, columns = X.shape
    some = chance(torch.rand(B, 1, 1), B, 1, columns) # columns that matter
    some = some.scatter(2, torch.randint(columns, (B, 1, 2)), True)
    Z = X * some
    linear = Z @ sparse_weights(B, columns, 1)
    additive = torch.where(chance(.5, B, 1, columns), Z, Z.abs()) @ torch.randn(B, columns, 1)
    width = rng.choice([4, 8, 16])
    bent = torch.tanh(Z @ torch.randn(B, columns, width) * (
        uniform(B, 1, 1, low=.5, high=3) / math.sqrt(columns))) @ torch.randn(B, width, 1)
    few = take(X, torch.randint(columns, (B, min(4, columns))))
    grown = trees(few if rng.random() < .5 else X, rng.randint(2, 16), rng.randint(1, 4))
    boosted = (grown * torch.exp(torch.randn(B, 1, grown.shape[2]))).sum(2, keepdim=True)
    rule = standard(trees(X, 1, rng.randint(2, 4)))
    rule = rule + .7 * standard(trees(X, 1, 2))
    at = torch.randint(N, (B, rng.randint(3, 10)))
    centres = Z.gather(1, at[..., None].expand(-1, -1, columns))
    near = (torch.cdist(Z, centres) * uniform(B, 1, 1, low=-6, high=-1)).softmax(-1)
    near = near @ torch.randn(B, centres.shape[1], 1)
    picked = take(X, torch.randint(columns, (B, 3)))
    odd = (picked[..., :2] > torch.randn(B, 1, 2) * .5).float().sum(-1, keepdim=True) % 2
    product = picked[..., :1] * picked[..., 1:2] + picked[..., 2:]
    one_of_many = linear - torch.maximum(bent * 2, Z @ sparse_weights(B, columns, 1))
    parts = [take(pool, left), linear, additive, bent, boosted, rule, near, odd, product, one_of_many]
    return [standard(part) for part in parts]

def labels(s, rate):
    "1 for the `rate` of each table's rows with the highest `s`, or for a band of it; both are `(B, N)` and `(B, 1)`."
    B, N = s.shape
    rank = s.argsort(1).argsort(1).float()
    number = (rate * N).round().clamp(min=4)
    low = torch.where(chance(.8, B, 1), N - number, torch.rand(B, 1) * (N - number))
    return ((rank >= low.floor()) & (rank < low.floor() + number)).long()

def shift_columns(X, rate):
    "Clean informative numbers: a hidden class moves some columns of some tables. The class before noise, `(B, N)`."
    B, N, columns = X.shape
    hidden = labels(torch.randn(B, N), rate * .999)
    part = chance(.4, B, N) & chance(.4, B, 1) # two kinds of the class
    def moves():
        size = torch.exp(uniform(B, 1, 1, low=-1.5, high=1.2))
        on = chance(torch.rand(B, 1, 1), B, 1, columns)
        return torch.randn(B, 1, columns) * size * on
    spread = torch.exp(torch.randn(B, 1, columns) * .4)
    moved = X * spread + torch.where(part[..., None], moves(), moves())
    clean = chance(.2, B, 1) # tables where the label is this class
    return torch.where((hidden.bool() & clean)[..., None], moved, X), hidden, clean

def missing_cells(X, y):
    "Cells to empty: at random, or more for large values, or more in one class."
    B, N, columns = X.shape
    rate = uniform(B, 1, columns) ** 3 * .7 * chance(.5, B, 1, columns)
    rate = rate * chance(.35, B, 1, 1)
    by_value = 1 + (X > 0) * uniform(B, 1, columns, low=-1, high=1) * chance(.3, B, 1, columns)
    by_class = 1 + y[..., None] * uniform(B, 1, columns, low=-1, high=1) * chance(
        .25, B, 1, columns)
    return torch.rand(B, N, columns) < rate * by_value * by_class

def in_order(X, y, context):
    "Rows in random order, with two rare rows at least in the context and one behind it."
    key = torch.rand(y.shape)
    place = torch.where(y == 1, torch.rand(y.shape), 2).argsort(1)[:, :3]
    key = key.scatter(1, place, torch.tensor([[-.1, -.2, 1.1]]).expand(len(y), -1))
    # any place inside the context is as good as the first, since rows have no order there
    order = key.argsort(1)
    return X.gather(1, order[..., None].expand_as(X)), y.gather(1, order)

def draw(B, N, columns, context, rng, device):
    "`B` tables on a device: see `tables`."
    with torch.no_grad(), torch.device(device): return tables(B, N, columns, context, rng)

def tables(B, N, columns, context, rng, most=24):
    "`B` tables: X `(B, N, F)` with NaN, y `(B, N)`, categorical `(B, F)`."
    low = max(.005, 6 / N)
    rate = torch.exp(uniform(B, 1, low=math.log(low), high=math.log(.5)))
    pool = latent(B, N, columns, rng)
    liking = torch.randn(B, pool.shape[2])
    order = liking.argsort(1)
    raw = take(pool, order[:, :columns])
    twin = take(raw, torch.randint(columns, (B, columns)))
    twin = twin + torch.randn_like(raw) * uniform(B, 1, columns, high=.5)
    raw = torch.where(chance(.08, B, 1, columns), twin, raw)
    raw, hidden, clean = shift_columns(raw, rate)
    # columns as they are seen, and what stands in their place in functions of columns
    share = uniform(B, 1, 1, low=-.4, high=1.3) # of categories: none, some or all
    is_code = chance(share, B, 1, columns)
    code, count = codes_of(raw, most, rng)
    order_kept = chance(.3, B, 1, columns) # ordinals, and yes or no as numbers
    seen = torch.where(order_kept, code, shuffled(code, count, most)).float()
    X = torch.where(is_code, seen, rounded(raw, rng))
    worth = torch.randn(B, most, columns).gather(1, code)
    meant = torch.where(is_code & chance(.7, B, 1, columns), worth, raw)
    meant = standard(torch.where(is_code & order_kept, code.float(), meant))
    parts = causes_of_label(meant, pool, order[:, columns:columns + 1], rng)
    first = choose(parts, B, 1, [2., 2., 1.5, 2., 3., 1.5, 1., .5, 1., 1.])
    second = choose(parts, B, 1)
    s = first + second * uniform(B, 1, 1, high=1.) * chance(.3, B, 1, 1)
    noise = torch.exp(uniform(B, 1, 1, low=-5, high=.4)) * chance(.8, B, 1, 1)
    s = standard(s)[..., 0] + (torch.randn_like(s) * noise)[..., 0]
    y = labels(s + torch.rand_like(s) * 1e-3, rate)
    y = torch.where(clean, hidden, y)
    # flipped labels: some rare rows change places with others
    flip = chance(uniform(B, 1, high=.15) * chance(.25, B, 1), B, N)
    y = torch.where(flip, y.roll(1, 1), y)
    lack = y.sum(1) < 4
    y = torch.where((torch.arange(N) < 4) & lack[:, None], 1, y)
    useless = chance(uniform(B, 1, 1, low=-.6, high=.5), B, 1, columns)
    X = torch.where(useless, X[:, torch.randperm(N)], X)
    X = X.masked_fill(missing_cells(raw, y), math.nan)
    X, y = in_order(X, y, context)
    named = chance(.85, B, columns) | chance(.3, B, 1)
    return X, y, (is_code & ~(order_kept & chance(.7, B, 1, columns)))[:, 0] & named

ROWS = (64, 96, 128, 192, 256, 384, 512, 768, 1024)

def shape_of(rng, rows, cells, longest=1024, widest=40):
    "Tables, rows, columns and context rows of the next batch, within the limits on rows and cells."
    N = min(longest, rng.choices(ROWS, (1, 1, 2, 3, 4, 4, 4, 2, 2))[0])
    columns = round(math.exp(rng.uniform(math.log(2), math.log(widest))))
    B = max(2, min(rows // N, cells // (N * columns), 60_000 // columns))
    return B, N, columns, round(N * rng.uniform(.3, .9))

# --- Training ---

def orthogonal(G, steps=5):
    "Near-orthogonal matrices `(n, rows, columns)` in the directions of `G`, by Newton-Schulz steps (Muon)."
    X = G.bfloat16()
    tall = X.shape[-2] > X.shape[-1]
    if tall: X = X.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=-4.7750, alpha=2.0315), X, beta=3.4445)
    return (X.mT if tall else X).float()

def network(args): return tablenet.TableNet(args.width, layers=args.layers)

KEPT = ("step", "tables", "elapsed", "rows", "cells") # of a run, beside its vectors

class Flat:
    "Tensors of a network, by name, as views of one vector, so that one operation does for all."
    def __init__(self, network, dtype=torch.float32):
        named = dict(network.named_parameters())
        self.shapes = {name: p.shape for name, p in named.items()}
        self.sizes = [p.numel() for p in named.values()]
        self.vector = torch.cat([p.detach().flatten() for p in named.values()]).to(dtype)

    def views(self, vector=None):
        "The vector, or one like it, as tensors by name."
        parts = (self.vector if vector is None else vector).split(self.sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts)}

class Muon:
    "Momentum made orthogonal for the matrices of layers, Adam's step for all else; at .4 of the rate."
    def __init__(self, flat, decay=.01, beta=.95, betas=(.9, .98)):
        self.decay = decay
        self.beta = beta
        self.betas = betas
        self.count = 0
        self.flat = flat
        self.named = flat.views()
        self.m = torch.zeros_like(flat.vector)
        self.v = torch.zeros_like(flat.vector)
        inside = [n for n, p in self.named.items() if p.ndim == 2 and ("attention" in n or "spread" in n or "mlp" in n)]
        self.groups = {}
        for name in inside:
            shape = (*self.named[name].shape, "key_value" in name)
            self.groups.setdefault(shape, []).append(name)
        self.adam = [n for n in self.named if n not in set(inside)]

    @torch.no_grad()
    def step(self, gradient, lr):
        "Move the parameters along a gradient, a vector like theirs, in place."
        self.count += 1
        G, M, V = (self.flat.views(vector) for vector in (gradient, self.m, self.v))
        for (rows, columns, two), names in self.groups.items():
            g, m, p = ([d[n] for n in names] for d in (G, M, self.named))
            torch._foreach_lerp_(m, g, 1 - self.beta)
            update = torch.stack(torch._foreach_lerp(g, m, self.beta)) # Nesterov's
            if two: update = update.view(-1, rows // 2, columns) # two matrices in one
            update = orthogonal(update).view(-1, rows, columns)
            size = max(rows // 2 if two else rows, columns)
            torch._foreach_mul_(p, 1 - lr * self.decay)
            torch._foreach_add_(p, list(update.unbind()), alpha=-lr * .2 * math.sqrt(size))
        g, m, v, p = ([d[n] for n in self.adam] for d in (G, M, V, self.named))
        b1, b2 = self.betas
        lr *= .4
        torch._foreach_lerp_(m, g, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, g, g, 1 - b2)
        root = torch._foreach_sqrt(torch._foreach_div(v, 1 - b2 ** self.count))
        torch._foreach_add_(root, 1e-8)
        torch._foreach_addcdiv_(p, m, root, -lr / (1 - b1 ** self.count))

def loss_of(net, X, y, categorical, context):
    "Cross-entropy of the rows behind the context and the entropy of the context's prior, both `(tables,)`."
    logit = net(X, y[:, :context], categorical)
    target = y[:, context:].float()
    loss = F.binary_cross_entropy_with_logits(logit, target, reduction="none").mean(1)
    return loss, prior_loss(y, context), logit

def prior_loss(y, context):
    "Cross-entropy of the rows behind the context if the context's share of rare rows is all that is known."
    p = (y[:, :context].float().mean(1, keepdim=True)).clamp(1e-4, 1 - 1e-4)
    return F.binary_cross_entropy(p.expand(-1, y.shape[1] - context), y[:, context:].float(), reduction="none").mean(1)

def mean_ap(logit, y):
    "Mean average precision over tables."
    ordered = y.gather(1, logit.argsort(1, descending=True)).float()
    precision = ordered.cumsum(1) / torch.arange(1, y.shape[1] + 1, device=y.device)
    return ((precision * ordered).sum(1) / ordered.sum(1).clamp(min=1)).mean()

class Run:
    "Weights in float32, a copy of them in bfloat16 that is run, their moving average, and the optimizer."
    def __init__(self, args):
        self.args = args
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        self.net = network(args).to(self.device)
        self.master = Flat(self.net)
        self.ema = self.master.vector.clone()
        self.bf16 = self.master.vector.bfloat16()
        self.net.to(torch.bfloat16)
        for p, view in zip(self.net.parameters(), self.master.views(self.bf16).values()): p.data = view
        self.optimizer = Muon(self.master)
        self.step = 0
        self.tables = 0
        self.elapsed = 0.
        self.rows = args.rows
        self.cells = args.cells
        self.rng = random.Random(args.seed) # noqa: S311

    def learning_rate(self):
        done = min(1., self.elapsed / (60 * self.args.minutes))
        warm = min(1., (self.step + 1) / self.args.warmup)
        return self.args.lr * warm * (.01 + .99 * .5 * (1 + math.cos(math.pi * done)))

    def update(self, X, y, categorical, context):
        "One step on a batch; loss over prior entropy as a tensor. A gradient that is not finite moves nothing."
        loss, prior, _ = loss_of(self.net, X, y, categorical, context)
        (loss / (prior.detach() + .1)).mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in self.net.parameters()]).float()
        self.net.zero_grad(set_to_none=True)
        norm = gradient.norm()
        gradient = torch.where(norm.isfinite(), gradient / norm.clamp(min=1), 0)
        self.optimizer.step(gradient, self.learning_rate())
        self.bf16.copy_(self.master.vector)
        self.ema.lerp_(self.master.vector, 1 - min(.999, (self.step + 1) / (self.step + 10)))
        self.step += 1
        self.tables += len(X)
        return (loss.sum() / prior.sum()).detach()

    def batches(self):
        "Some batches of tables of one shape, drawn together to save small operations. Early tables are small."
        grown = min(1., .1 + self.elapsed / (60 * self.args.minutes) / .15)
        longest = min(self.args.longest, max(128, int(self.args.longest * grown)))
        widest = min(self.args.widest, max(4, int(self.args.widest * grown)))
        B, N, columns, context = shape_of(self.rng, self.rows, self.cells, longest, widest)
        X, y, categorical = draw(B * self.args.together, N, columns, context, self.rng, self.device)
        for i in range(0, len(X), B): yield X[i:i + B], y[i:i + B], categorical[i:i + B], context

    def averaged(self):
        "A network of the averaged weights."
        net = network(self.args).to(self.device)
        net.load_state_dict(self.master.views(self.ema))
        return net.eval().requires_grad_(False)

    def vectors(self): return dict(master=self.master.vector, ema=self.ema, m=self.optimizer.m, v=self.optimizer.v)

    def save(self):
        "Write the average to FILE, everything to FILE.state, each in one go."
        about = dict(seconds=f"{self.elapsed:.0f}", steps=str(self.step), tables=str(self.tables))
        tablenet.save_net(self.averaged().cpu(), self.args.out, **about)
        state = {name: getattr(self, name) for name in KEPT}
        state |= self.vectors() | dict(count=self.optimizer.count, rng=self.rng.getstate())
        partial = Path(f"{self.args.state}.partial")
        torch.save(state, partial)
        partial.replace(self.args.state)

    def load(self):
        "Go on from FILE.state."
        state = torch.load(self.args.state, map_location=self.device, weights_only=False) # noqa: S614 our own file
        for name, vector in self.vectors().items(): vector.copy_(state[name])
        for name in KEPT: setattr(self, name, state[name])
        self.optimizer.count = state["count"]
        self.rng.setstate(state["rng"])
        self.bf16.copy_(self.master.vector)

# rows, columns and context rows of tables that are held out
VALID = ((64, 4, 48), (128, 8, 96), (256, 12, 160), (256, 30, 200), (512, 8, 256), (768, 16, 640))

def aside(device):
    "A context in which random numbers do not count for those outside."
    return torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else [])

def validation(device, count):
    "Batches of tables that no training draws (their own seed), whatever came before."
    with aside(device):
        for k, (N, columns, context) in enumerate(VALID):
            torch.manual_seed(10_000_019 + k)
            rng = random.Random(10_000_019 + k) # noqa: S311
            # several structures of each shape
            drawn = [draw(max(1, count // 4), N, columns, context, rng, device) for _ in range(4)]
            yield (*map(torch.cat, zip(*drawn)), context)

def validate(net, batches):
    "Loss over prior entropy and average precision over rate, both means over tables of all shapes."
    ratio = []
    ap = []
    with torch.no_grad(), aside(batches[0][0].device):
        torch.manual_seed(0) # of the columns' codes
        for X, y, categorical, context in batches:
            parts = [loss_of(net, *part, context) for part in zip(X.split(64), y.split(64), categorical.split(64))]
            loss, prior, logit = map(torch.cat, zip(*parts))
            ratio.append((loss.sum() / prior.sum()).item())
            ap.append(mean_ap(logit, y[:, context:]).item())
    return float(np.mean(ratio)), float(np.mean(ap))

def compiled():
    "Fuse norm, GELU and residual of the perceptrons, if the machine can; else they stay as they are."
    plain = tablenet._perceptron
    try:
        torch._dynamo.config.suppress_errors = True # whatever cannot be compiled later runs as it is
        tablenet._perceptron = torch.compile(plain, dynamic=True)
    except Exception as error:
        print("not compiled:", error, flush=True)
        tablenet._perceptron = plain

def halve(run, error):
    "Go on with half of the rows and cells after memory ran out; other errors are raised."
    if not isinstance(error, torch.cuda.OutOfMemoryError) and "out of memory" not in str(error).lower(): raise error
    run.net.zero_grad(set_to_none=True)
    run.rows = max(2048, run.rows // 2)
    run.cells = max(20_000, run.cells // 2)
    torch.cuda.empty_cache()
    print(f"out of memory: {run.rows} rows, {run.cells} cells a batch", flush=True)

def train(args):
    run = Run(args)
    if args.resume and args.state.exists(): run.load()
    if args.compile: compiled()
    held_out = list(validation(run.device, args.validate))
    log = args.out.with_suffix(".csv")
    if not (args.resume and log.exists()): log.write_text("seconds,step,tables,train,valid,valid_ap,rows,lr\n")
    torch.manual_seed(args.seed + run.step + 1)
    start = START - run.elapsed
    saved = time.time()
    logged = time.time()
    losses = []
    end = 60 * args.minutes

    def report():
        nonlocal logged, losses
        train_loss = torch.stack(losses).nanmean().item() if losses else math.nan
        valid, ap = validate(run.averaged().to(torch.bfloat16), held_out)
        row = [f"{run.elapsed:.1f}", run.step, run.tables, f"{train_loss:.4f}", f"{valid:.4f}", f"{ap:.4f}", run.rows,
               f"{run.learning_rate():.2e}"]
        with log.open("a", newline="") as file: csv.writer(file).writerow(row)
        print(*row, flush=True)
        logged, losses = time.time(), []

    while run.elapsed < end:
        try:
            for batch in run.batches():
                losses.append(run.update(*batch))
                if run.step % 8 == 0 and run.device.type == "cuda": torch.cuda.synchronize() # the clock means something
                run.elapsed = time.time() - start
                if run.elapsed >= end: break
        except RuntimeError as error: halve(run, error)
        run.elapsed = time.time() - start
        if time.time() - logged > args.every: report()
        if time.time() - saved > args.save_every:
            run.save()
            saved = time.time()
    if losses: report()
    run.save()

def speed(args):
    "Milliseconds of a step and tables a second for three shapes and three sizes of batches, within `minutes`."
    run = Run(args)
    if args.compile: compiled()
    wait = torch.cuda.synchronize if run.device.type == "cuda" else (lambda: None)
    end = time.time() + 60 * args.minutes

    def timed(f):
        wait()
        start = time.time()
        found = f()
        wait()
        return found, (time.time() - start) * 1e3 / args.together

    def step(tables, B, context):
        for i in range(args.together): run.update(*(part[i * B:(i + 1) * B] for part in tables), context)

    for factor in (.5, 1, 2):
        for N, columns in ((128, 6), (384, 12), (1024, 24)):
            if time.time() > end: return
            B = max(2, int(min(run.rows // N, run.cells // (N * columns)) * factor))
            for _ in range(2): # the second counts
                tables, drawing = timed(lambda: draw(B * args.together, N, columns, N * 2 // 3, run.rng, run.device))
                _, learning = timed(lambda: step(tables, B, N * 2 // 3))
            memory = torch.cuda.max_memory_allocated() / 2**30 if run.device.type == "cuda" else math.nan
            print(f"{B} tables of {N} x {columns}: drawing {drawing:.1f} ms, learning {learning:.1f} ms a batch, "
                  f"{B / (drawing + learning) * 1e3:.0f} tables/s, {memory:.1f} GiB at most", flush=True)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("incontext.safetensors"), help="the weights; the log and the state lie beside")
    add("--state", type=Path, help="where to keep what resuming needs, if not beside")
    add("--minutes", type=float, default=8., help="from the start of the program, and those before --resume")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--seed", type=int, default=0)
    add("--lr", type=float, default=4e-3, help="of the matrices, by Muon; all else gets .4 of it, by Adam")
    add("--warmup", type=int, default=200, help="steps until the learning rate is reached")
    add("--width", type=int, default=64, help="of a cell; a row has four times as much")
    add("--layers", type=int, default=7, help="layers over rows")
    add("--longest", type=int, default=1024, help="rows of a table at most")
    add("--widest", type=int, default=40, help="columns of a table at most")
    add("--rows", type=int, help="rows of all tables of a batch at most")
    add("--cells", type=int, help="cells of all tables of a batch at most")
    add("--memory", type=float, default=.5, help="share of the GPU's memory at most")
    add("--together", type=int, default=4, help="batches that are drawn at once")
    add("--validate", type=int, help="synthetic tables of each of six shapes that are held out")
    add("--every", type=float, default=15., help="seconds between lines of the log")
    add("--save-every", type=float, default=30.)
    add("--resume", action="store_true")
    add("--compile", action="store_true", help="fuse small operations with torch.compile")
    add("--speed", action="store_true", help="measure only")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.state = args.state or Path(f"{args.out}.state")
    cuda = args.device.startswith("cuda")
    args.rows = args.rows or (32_000 if cuda else 3_000)
    args.cells = args.cells or (450_000 if cuda else 30_000)
    args.validate = args.validate or (256 if cuda else 16)
    torch.set_float32_matmul_precision("high")
    if cuda:
        torch.backends.cuda.enable_cudnn_sdp(False) # it plans anew for every shape
        torch.cuda.set_per_process_memory_fraction(args.memory)
    # the flash kernel of CPUs has a slow backward pass
    kernel = contextlib.nullcontext() if cuda else sdpa_kernel(SDPBackend.MATH)
    with kernel, contextlib.suppress(KeyboardInterrupt): (speed if args.speed else train)(args)

if __name__ == "__main__": main()
