"""The benefit of a GPU, in parts. Each part ends after a given number of seconds and writes its results as they come.

    python benchmarks/gpu.py speed [--until 110]    training and sampling beside be_great, utilisation, the fraud table
    python benchmarks/gpu.py smoke [--until 75]     does it all run here? compiling, CUDA graphs, processes that share
    python benchmarks/gpu.py all [--until 500]      benchmarks/pretrained.py and tools/pretrain_critic.py at once

`--out` (or the variable OUT) is the folder of the results: PART.csv, and the output of the processes in PART.log. Every
measurement is a separate process. All get ready together, then run one after the other, so that none disturbs another.
A failure or timeout is recorded, and the next one starts.

`speed` measures the same as benchmarks/speed.py does on a CPU, with the same functions. The model has distilgpt2's
shape with random weights and GPT-2's vocabulary (the folder that IMBLLM_GPT2 names). Training takes rows of german,
sampling those of `make_income`. Times include the whole work of the GPU: it has finished when the clock is read.
Utilisation is the rate of the model's floating-point operations, divided by the rate of a large bfloat16 matrix product
on this machine. `--device cpu` runs the same code, for trying it out.
"""
import argparse, contextlib, csv, json, os, queue, shutil, signal, subprocess, sys, tempfile, threading, time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN = time.time()
MOST = 16 * 2**20 - 2**16 # bytes of a file that is brought home
IMPORTS = 22 # seconds before the end at which scripts stop that count from when they have imported what they need

def clock(): return f"{time.time() - BEGIN:.0f} s"

# --- processes: the parent's side ---

def started(command, log, env=None, **options):
    "A process in its own group, which `ended` can end as a whole."
    env = os.environ | dict(PYTHONUNBUFFERED="1") | (env or {})
    return subprocess.Popen(command, stderr=log, env=env, preexec_fn=os.setpgrp, text=True, **options)

def ended(process):
    "End a process and all that it started."
    with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
    process.wait()

class Child:
    "A function of this script in a separate process. It gets ready at once and starts on command."
    def __init__(self, name, log, *args, env=None):
        self.name = name
        task = json.dumps([name, args])
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process = started([sys.executable, __file__, "--child", task], log, env, **pipes)
        self.messages = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError): self.messages.put(json.loads(line))
        self.messages.put(None)

    def wait(self, until):
        "What it says next; None at its end."
        try: return self.messages.get(timeout=max(.01, until - time.time()))
        except queue.Empty: raise TimeoutError(f"{self.name} took too long") from None

    def go(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def records(self, until):
        "Let it begin, and yield what it finds; it is dead afterwards."
        try:
            while (said := self.wait(until)) is not None:
                if said.get("ready"): self.go()
                else: yield said
        except TimeoutError as e: yield dict(what=self.name, error=str(e))
        finally: ended(self.process)

class Table:
    "Rows of results, written to a CSV file whenever one comes."
    def __init__(self, path):
        self.path = path
        self.rows = []
        self.lock = threading.Lock()

    def add(self, what, value=None, unit="", error="", note=""):
        if isinstance(value, float): value = float(f"{value:.5g}")
        self.rows.append(dict(what=what, value=value, unit=unit, error=error, note=note, at=clock()))
        said = f"ERROR {error}" if error else f"{'' if value is None else value} {unit} {note}"
        print(f"{clock():>6} {what}: {said}"[:400], flush=True)
        with self.lock: self._write()

    def _write(self):
        part = self.path.with_name("." + self.path.name)
        with part.open("w", newline="") as f:
            writer = csv.DictWriter(f, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(part, self.path)

    def value(self, what): return next((r["value"] for r in self.rows if r["what"] == what and r["value"]), None)

    def show(self):
        width = max((len(r["what"]) for r in self.rows), default=0)
        print()
        for r in self.rows:
            value = r["error"][:90] or f"{'' if r['value'] is None else r['value']} {r['unit']} {r['note']}"
            print(f"{r['what']:<{width}}  {value}"[:200])

# --- processes: the child's side ---

def child(task):
    "Run a function: up to its first `yield` it gets ready, then it yields what it finds."
    name, args = json.loads(task)
    out, sys.stdout = sys.stdout, sys.stderr # what libraries print is no result
    def tell(record): print(json.dumps(record, default=float), file=out, flush=True)
    try:
        found = globals()[name](*args)
        next(found)
        tell(dict(ready=True))
        sys.stdin.readline()
        for record in found: tell(record)
    except Exception as e:
        traceback.print_exc()
        tell(dict(what=name, error=f"{type(e).__name__}: {str(e)[:300]}"))

def synchronize(device):
    import torch
    if device == "cuda": torch.cuda.synchronize()

def seconds_of(work, device, n):
    "Seconds of `work`, called `n` times after it was called twice."
    for _ in range(2): work()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(n): work()
    synchronize(device)
    return (time.perf_counter() - start) / n

def limits(device, size):
    "What a large product of matrices in bfloat16 and a large copy reach."
    import torch
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    yield
    yield dict(what="matrix product in bfloat16", value=2 * size**3 / seconds_of(lambda: a @ b, device, 20) / 1e12,
               unit="TFLOP/s", note=f"{size} x {size}")
    x = torch.randn(size * size, device=device)
    y = torch.empty_like(x)
    yield dict(what="copy", value=8 * size**2 / seconds_of(lambda: y.copy_(x), device, 20) / 1e9, unit="GB/s")

class Between:
    "Rows per second between two updates of a training, the work of the GPU included."
    def __init__(self, device, batch_size, first, last):
        self.device = device
        self.rows = (last - first) * batch_size
        self.ends = first, last
        self.times = []

    def note(self, n):
        if n not in self.ends: return
        synchronize(self.device)
        self.times.append(time.perf_counter())

    def rate(self): return self.rows / (self.times[1] - self.times[0])

def trained(train, folder, device, batch_size, first, last):
    "Rows of german per second that a side trains, between two updates."
    import speed
    between = Between(device, batch_size, first, last)
    with speed.Updates(between.note): train(folder, device, *speed.training_table("german"), batch_size, last)
    return between.rate()

def sampled(model, sample, X, device):
    "Rows per second that a side samples, and the share that is valid."
    import speed
    synchronize(device)
    start = time.perf_counter()
    frame = sample(model, X)
    synchronize(device)
    return len(frame) / (time.perf_counter() - start), float(speed.valid(frame, X).mean())

def ready(device, tiny):
    "Import what a side needs, and make the model."
    import speed
    if tiny: speed.LAYERS, speed.WIDTH, speed.CANDIDATES, speed.BRIEF = 1, 48, 100, dict(batch_size=8, steps=3)
    folder = tempfile.mkdtemp()
    speed.make_model(folder, .1)
    speed.torch.zeros(1, device=device)
    return speed, folder

def peer(device, tiny):
    "Training and sampling of be_great."
    import be_great # noqa: F401
    speed, folder = ready(device, tiny)
    yield
    first, last = (2, 4) if tiny else (10, 50)
    yield dict(what="be_great: training", value=trained(speed.train_peer, folder, device, 32, first, last),
               unit="rows/s", note="german, batches of 32")
    X, y = speed.make_income(1000, random_state=0)
    model = speed.train_peer(folder, device, X, y, **speed.BRIEF)
    rate, valid = sampled(model, speed.sample_peer, X, device)
    yield dict(what="be_great: share of valid rows", value=valid)
    yield dict(what="be_great: sampling", value=rate, unit="candidates/s", note="batches of 100")

WAYS = { # how an update is computed: updates before a shape is captured, updates from which layers are compiled
    "step by step": (10**9, 10**9), "CUDA graphs": (3, 10**9), "compiled, CUDA graphs": (3, 0)}

def in_way(way):
    "Let updates be computed in one of these ways."
    from imbllm import finetuning
    finetuning.CAPTURE_AFTER, finetuning.COMPILE_FROM = WAYS[way]
    finetuning._has_compiled = way.startswith("compiled")

def rate_of(speed, folder, device, way, batch_size, first, last):
    "Rows that we train per second, and the operations of the model that this takes."
    in_way(way)
    tokens = speed.tokens_per_row(folder, speed.training_table("german")[0])
    per_token = 6 * 12 * speed.LAYERS * speed.WIDTH**2 + 6 * speed.LAYERS * speed.WIDTH * tokens
    rate = trained(speed.train_ours, folder, device, batch_size, first, last)
    what = f"ours: training, {batch_size} rows, {way}"
    yield dict(what=what, value=rate, unit="rows/s", note=f"german, {tokens:.0f} tokens a row")
    yield dict(what=what + ", operations", value=per_token * tokens * rate / 1e12, unit="TFLOP/s")

def ours(device, tiny):
    "Training and sampling of ours."
    speed, folder = ready(device, tiny)
    yield
    sizes = [(32, 1, 3)] * 2 + [(64, 1, 3)] if tiny else [(32, 20, 40), (32, 80, 160), (512, 25, 50)]
    for way, size in zip(["step by step", "CUDA graphs", "CUDA graphs"], sizes):
        yield from rate_of(speed, folder, device, way, *size)
    X, y = speed.make_income(1000, random_state=0)
    model = speed.train_ours(folder, device, X, y, **speed.BRIEF)
    for n in [50] if tiny else [400, 4096, 40_000]:
        rate, valid = sampled(model, lambda m, X, n=n: m.sample(n, random_state=0), X, device)
        yield dict(what=f"ours: sampling {n} rows", value=rate, unit="rows/s", note=f"{valid:.3f} of them valid")

def compiled(device, tiny):
    "Training of ours with compiled layers, which are compiled while others measure."
    speed, folder = ready(device, tiny)
    way = "compiled, CUDA graphs"
    for _ in rate_of(speed, folder, device, way, 32, 1, 4): pass
    yield
    for size in [(32, 1, 3)] if tiny else [(32, 100, 200), (512, 25, 50)]:
        yield from rate_of(speed, folder, device, way, *size)

def fraud(device, tiny):
    "A table shaped like that of card fraud, by the embedded engine: 20,000 rows, 100 of them rare."
    from imbllm import ImbLLM
    from imbllm.datasets import make_fraud
    n = 300 if tiny else 20_000
    X, y = make_fraud(n, minority_share=100 / 20_000, random_state=0)
    import torch
    if device == "cuda": torch.zeros(1, device=device)
    yield
    start = time.perf_counter()
    sampler = ImbLLM(device=device, random_state=0, verbose=0, epochs=1 if tiny else None).fit(X, y)
    yield dict(what="fraud: fit", value=time.perf_counter() - start, unit="s", note=f"{n} rows")
    for k in [4] if tiny else [1000, 8000]:
        start = time.perf_counter()
        sampler.sample(k, random_state=0)
        rate = k / (time.perf_counter() - start)
        yield dict(what=f"fraud: sampling {k} rows", value=rate, unit="rows/s", note="candidates and critic as usual")
        if rate < 800: return

# --- does everything run here? ---

def random_llm(folder, tiny):
    "SmolLM2's shape with random weights and GPT-2's vocabulary, in a folder."
    import torch
    from transformers import GPT2TokenizerFast, LlamaConfig, LlamaForCausalLM
    from imbllm.testing import find_gpt2_vocabulary
    torch.manual_seed(0)
    size = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3) if tiny else dict(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=50257, num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=50256, eos_token_id=50256, **size))
    model.save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(str(find_gpt2_vocabulary())).save_pretrained(folder)

def versions(device):
    "What is here."
    import importlib
    from importlib.metadata import PackageNotFoundError, version
    import torch
    yield
    if device == "cuda":
        p = torch.cuda.get_device_properties(0)
        yield dict(what="card", note=f"{p.name}, {p.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    found = []
    for name in ["torch", "transformers", "triton", "numpy", "pandas", "scikit-learn", "imbalanced-learn", "be_great",
                 "gguf", "xgboost-cpu", "peft", "accelerate"]:
        with contextlib.suppress(PackageNotFoundError): found.append(f"{name} {version(name)}")
    yield dict(what="versions", note=", ".join([f"python {sys.version.split()[0]}", *found]))
    tools = {name: shutil.which(name) or "none" for name in ["gcc", "nvcc", "nvidia-cuda-mps-control"]}
    yield dict(what="tools", note=f"{os.cpu_count()} cores, " + ", ".join(f"{k}: {v}" for k, v in tools.items()))
    for name in ["imbllm.oversampler", "imbllm.classifier", "imbllm.benchmark", "imbllm.baselines", "imbllm.metrics",
                 "be_great", "gguf", "xgboost"]:
        try: importlib.import_module(name)
        except Exception as e: yield dict(what=f"import {name}", error=f"{type(e).__name__}: {str(e)[:200]}")

def updates(folder, device, way, tiny):
    "Updates of a language model of SmolLM2's shape on the paper's rows; then rows written freely and under a grammar."
    import numpy as np
    import torch
    from imbllm import ImbLLM, Training
    from imbllm.datasets import make_income
    from torch.optim.optimizer import register_optimizer_step_post_hook
    if device == "cuda": torch.zeros(1, device=device)
    yield
    in_way(way)
    between = Between(device, 32, *((2, 4) if tiny else (40, 100)))
    done = []
    def note(*_):
        done.append(0)
        between.note(len(done))
    X, y = make_income(32 * between.ends[1], random_state=0)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.callback(register_optimizer_step_post_hook(note).remove)
        sampler = ImbLLM(llm=folder, device=device, epochs=1, finetune_on="major+minor", random_state=0,
                         candidates=1, verbose=0, training=Training(batch_size=32, learning_rate=1e-4)).fit(X, y)
    ms = 32e3 / between.rate()
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0
    yield dict(what=f"SmolLM2's shape, {way}", value=ms, unit="ms an update of 32 rows",
               note=f"{time.perf_counter() - start:.0f} s in all, {peak:.1f} GiB")
    yield dict(what=f"SmolLM2's shape, {way}, loss", value=float(np.mean(sampler.history_.loss[-10:])), unit="nats")
    if way == "compiled, CUDA graphs":
        from torch._dynamo.utils import counters
        yield dict(what="compiled graphs", value=counters["stats"]["unique_graphs"],
                   note=str(dict(counters["graph_break"]))[:200])
        return
    start = time.perf_counter()
    n = 8 if tiny else 2048
    if way == "step by step":
        from imbllm.sampling import seeded_generator, write_rows
        from imbllm.serialization import Rows
        model = sampler.row_model_
        order = model.orders(n, 1, np.random.default_rng(0))[0]
        rows = Rows(np.zeros((n, len(model.columns)), dtype=int))
        with model.computing(sampler.settings):
            _, why = write_rows(model.model, model.grammar, rows, order, 2, .7, seeded_generator(0))
        note = f"{(why == '').sum()} valid, with reading them"
    else:
        sampler.sample(n, random_state=0)
        note = "under the grammar"
    synchronize(device)
    yield dict(what=f"SmolLM2's shape, {n} rows written", value=n / (time.perf_counter() - start), unit="rows/s",
               note=note)

def burn(seconds, device):
    "Many small products, as CUDA graphs of 100: how many in so many seconds. Starts again on command."
    import torch
    size = 512 if device == "cuda" else 16
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    def work():
        for _ in range(100): torch.mm(a, b)
    again = work
    if device == "cuda":
        from imbllm.finetuning import _captured
        again = _captured(work)[0].replay
    for _ in range(3): again()
    synchronize(device)
    yield
    while True:
        n = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            again()
            synchronize(device)
            n += 1
        yield dict(value=n / seconds)
        if not sys.stdin.readline(): return

class Sharing:
    "NVIDIA's daemon that lets kernels of several processes run at the same time (MPS), with folders of its own."
    def __enter__(self):
        self.env = {f"CUDA_MPS_{name}_DIRECTORY": tempfile.mkdtemp() for name in ["PIPE", "LOG"]}
        self._call("-d")
        return self

    def __exit__(self, *error):
        with contextlib.suppress(Exception): self._call(input="quit\n")

    def _call(self, *options, **more):
        ran = subprocess.run(["nvidia-cuda-mps-control", *options], env=os.environ | self.env, capture_output=True,
                             text=True, timeout=15, **more)
        if ran.returncode: raise RuntimeError((ran.stderr or ran.stdout)[:200])

def rates(children, until):
    "Kernels that children which burn get done when they do it together, a hundred each second."
    for c in children: c.go()
    return sum(c.wait(until)["value"] for c in children)

def burning(n, device, log, until, env=None):
    "So many processes that are ready to burn."
    children = [Child("burn", log, 1.5, device, env=env) for _ in range(n)]
    for c in children:
        said = c.wait(until)
        if not said or not said.get("ready"): raise RuntimeError(f"{said}")
    return children

def sharing(table, device, log, until):
    "Do two processes get more done under MPS than by taking turns?"
    what = "two processes that share the card"
    children = []
    try:
        children += burning(2, device, log, until)
        one = rates(children[:1], until)
        two = rates(children, until)
        table.add(what + ", in turns", two / one, "times one process")
        with Sharing() as daemon:
            shared = burning(2, device, log, until, daemon.env)
            children += shared
            table.add(what + ", with MPS", rates(shared, until) / one, "times one process")
            for c in shared: ended(c.process)
    except Exception as e: table.add(what, error=f"{type(e).__name__}: {str(e)[:200]}")
    finally:
        for c in children: ended(c.process)

def tried(command, table, log, until, env=None):
    "Run a command; the last lines that it prints are the result."
    start = time.time()
    what = " ".join(command[1:4])
    process = started(command, subprocess.STDOUT, env, stdout=subprocess.PIPE)
    try: said, _ = process.communicate(timeout=max(1, until - time.time()))
    except subprocess.TimeoutExpired:
        ended(process)
        said, _ = process.communicate()
    log.write(said)
    last = " | ".join(said.strip().splitlines()[-3:])[-300:]
    code = process.returncode
    table.add(what, time.time() - start, "s", error=f"exit {code}: {last}" if code else "", note=last)

# --- the parts ---

def in_turns(children, table, until, most=1e9):
    "What each child finds, one after the other; each has so many seconds."
    for c in children:
        for record in c.records(min(until, time.time() + most)): table.add(**record)

def speed_part(args, table, log):
    size = 256 if args.tiny else 8192
    children = [Child("limits", log, args.device, size)]
    children += [Child(name, log, args.device, args.tiny) for name in ["ours", "peer", "fraud", "compiled"]]
    in_turns(children, table, BEGIN + args.until, most=args.until / 2)
    peak = table.value("matrix product in bfloat16")
    for row in [r for r in table.rows if r["what"].endswith("operations") and r["value"] and peak]:
        table.add(row["what"].replace("operations", "share of the peak"), row["value"] / peak)
    best = max((r["value"] for r in table.rows if r["what"].startswith("ours: training, 32") and r["unit"] == "rows/s"),
               default=None)
    peers = [table.value(f"be_great: {what}") for what in ["training", "sampling", "share of valid rows"]]
    if best and peers[0]: table.add("training, times be_great", best / peers[0])
    mine = max((r["value"] for r in table.rows if r["what"].startswith("ours: sampling")), default=None)
    if mine and peers[1]:
        table.add("sampling, times be_great, candidates", mine / peers[1])
        if peers[2]: table.add("sampling, times be_great, valid rows", mine / (peers[1] * peers[2]))

def smoke_part(args, table, log):
    until = BEGIN + args.until
    folder = tempfile.mkdtemp()
    children = [Child("updates", log, folder, args.device, way, args.tiny) for way in WAYS] # get ready meanwhile
    making = started([sys.executable, "-c", f"import gpu; gpu.random_llm({folder!r}, {args.tiny})"], log, cwd=HERE)
    report = threading.Thread(target=in_turns, args=([Child("versions", log, args.device)], table, until))
    report.start()
    sharing(table, args.device, log, min(until, BEGIN + max(30, args.until / 3)))
    if making.wait(): table.add("SmolLM2's shape", error="could not be made; see the log")
    several = [threading.Thread(target=in_turns, args=([c], table, until)) for c in children]
    work = tempfile.mkdtemp()
    commands = [
        [sys.executable, str(HERE / "pretrained.py"), "rows", "--llm", folder, "--device", args.device, "--out", work,
         "--workers", "2", "--tables", "insurance", "--epochs", "1", "--until", str(args.until / 2)],
        [sys.executable, str(HERE.parent / "tools" / "pretrain_critic.py"), "--minutes", ".3", "--device", args.device,
         "--out", f"{work}/critic.safetensors"]]
    several += [threading.Thread(target=tried, args=(c, table, log, until)) for c in commands if Path(c[1]).exists()]
    for t in several: t.start()
    for t in [report, *several]: t.join()

def collect(source, target):
    "Copy finished files to the results, if they are small enough."
    for path in Path(source).glob("*"):
        if path.suffix not in (".safetensors", ".csv") or path.name[0] == "." or path.stat().st_size > MOST: continue
        there = target / path.name
        if there.exists() and there.stat().st_mtime >= path.stat().st_mtime: continue
        with contextlib.suppress(OSError):
            shutil.copy2(path, target / f".{path.name}")
            os.replace(target / f".{path.name}", there)

def progress(jobs, work):
    "A line on how things stand."
    ask = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"]
    smi = shutil.which("nvidia-smi") and subprocess.run(ask, capture_output=True, text=True, timeout=10)
    said = {name: (Path(work) / f"{name}.log").read_text(errors="replace").strip() for name in jobs}
    last = [(name, *text.splitlines()[-1:]) for name, text in said.items()]
    cells = len(list((Path(work) / "cells").glob("*.json")))
    print(f"{clock()}: {smi.stdout.strip() if smi else 'no card'}; {cells} cells; "
          + "; ".join(": ".join(l)[:150] for l in last), flush=True)

def decided(args, table):
    "What the tables of the other parts say: does MPS pay here, and do compiled layers?"
    found = {}
    for path in args.learn.glob("*.csv"):
        with path.open() as f: found |= {r["what"]: float(r["value"] or 0) for r in csv.DictReader(f)}
    def gain(a, b): return found.get(a, 0) / (found.get(b, 0) or 1e9)
    pair = "two processes that share the card, "
    training = "ours: training, 32 rows, "
    shared = gain(pair + "with MPS", pair + "in turns")
    faster = gain(training + "compiled, CUDA graphs", training + "CUDA graphs")
    loss = {way: found.get(f"SmolLM2's shape, {way}, loss", 0) for way in WAYS}
    right = {way: abs(loss[way] / (loss["step by step"] or 1e9) - 1) < .03 for way in WAYS}
    args.mps |= shared > 1.15
    args.compile |= faster > 1.2 and right["compiled, CUDA graphs"]
    if not right["CUDA graphs"]: os.environ["IMBLLM_CAPTURE_AFTER"] = str(10**9)
    table.add("ways", note=f"MPS {args.mps} ({shared:.2f}), compiled {args.compile} ({faster:.2f}), right {right}")

def all_part(args, table, log):
    if args.learn: decided(args, table)
    work = Path(tempfile.mkdtemp())
    critic = work / "critic"
    critic.mkdir()
    left = args.until - (time.time() - BEGIN) - IMPORTS
    commands = dict(
        pretrained=[sys.executable, str(HERE / "pretrained.py"), "rows", "--out", str(args.out), "--work",
                    str(work / "cells"), "--device", args.device, "--workers", str(args.workers), "--until", str(left),
                    *args.rows],
        critic=[sys.executable, str(HERE.parent / "tools" / "pretrain_critic.py"), "--minutes", f"{left / 60:.2f}",
                "--device", args.device, "--out", str(critic / "critic.safetensors"), "--state", str(work / "state"),
                "--memory", ".35", *args.critic])
    env = dict(TORCHINDUCTOR_COMPILE_THREADS="2", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    if args.compile: env["IMBLLM_COMPILE_FROM"] = "0"
    with contextlib.ExitStack() as stack:
        if args.mps:
            try: env |= stack.enter_context(Sharing()).env
            except Exception as e: table.add("MPS", error=str(e)[:200])
        logs = {name: stack.enter_context((work / f"{name}.log").open("w")) for name in commands}
        jobs = {name: started(c, subprocess.STDOUT, env, stdout=logs[name]) for name, c in commands.items()
                if name not in args.without}
        try: watched(jobs, work, critic, args)
        finally:
            for name, job in jobs.items():
                code = job.poll()
                ended(job)
                error = "" if code == 0 else f"exit {code}"
                table.add(name, error=error, note=(work / f"{name}.log").read_text(errors="replace")[-200:].strip())
            collect(critic, args.out)
            for name in jobs: log.write(f"==== {name}\n" + (work / f"{name}.log").read_text(errors="replace")[-2**20:])

def watched(jobs, work, critic, args):
    "Say how things stand, and bring home what there is, until all is over."
    said = collected = 0
    while time.time() < BEGIN + args.until - 3 and any(j.poll() is None for j in jobs.values()):
        time.sleep(.5)
        if time.time() - collected > 15:
            collect(critic, args.out)
            collected = time.time()
        if time.time() - said > 30:
            said = time.time()
            with contextlib.suppress(Exception): progress(jobs, work)

PARTS = dict(speed=(speed_part, 110), smoke=(smoke_part, 75), all=(all_part, 500))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--until", type=float, help="seconds after the start at which all is over")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu")), help="folder of the results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU can bear, to try the script out")
    parser.add_argument("--workers", type=int, default=4, help="processes of `all` that fine-tune")
    parser.add_argument("--mps", action="store_true", help="`all`: let processes share the card by MPS")
    parser.add_argument("--compile", action="store_true", help="`all`: compile layers, however short the training")
    parser.add_argument("--learn", type=Path, help="`all`: tables of the other parts, to decide on both")
    parser.add_argument("--without", nargs="*", default=[], choices=["pretrained", "critic"], help="`all`: leave out")
    parser.add_argument("--rows", default="", type=str.split, help="`all`: further options of pretrained.py")
    parser.add_argument("--critic", default="", type=str.split, help="`all`: further options of pretrain_critic.py")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child: return child(args.child)
    function, seconds = PARTS[args.part]
    args.until = args.until or seconds
    args.out.mkdir(parents=True, exist_ok=True)
    places = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    table = Table(args.out / f"{args.part}.csv")
    with (args.out / f"{args.part}.log").open("w") as log:
        try: function(args, table, log)
        except Exception as e:
            traceback.print_exc(file=log)
            table.add(args.part, error=f"{type(e).__name__}: {str(e)[:300]}")
    table.show()

if __name__ == "__main__": main()
