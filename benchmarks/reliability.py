"""Do files survive a killed process, or a full or read-only disk? Writes results/reliability.csv.

    python benchmarks/reliability.py [--jobs fit oversample save bench disks memory] [--kills 30] [--soak 0]

SIGKILL kills four jobs, each `--kills` times: fitting with checkpoints and writing rows; `imbllm oversample`;
repeatedly saving a model over itself; a benchmark grid. Half of the moments are random over the whole job, half are
near its end, where files get their names. A killed job starts again in the same folder. After each kill, every file
with a final name must be complete, and no finished file may be missing. At the end the files must equal those of an
undisturbed run.

As root on Linux, the same writers also meet a full and a read-only file system. They must raise one clear error, and
leave the old files untouched and the object usable. The same call must work once there is room. The kernel also kills
workers of `sample(n_jobs=2)` and of a benchmark grid for lack of memory: the result must be that of one process.
`--soak MINUTES` fits, saves, loads and samples for so long, and writes the memory of the process to results/soak.csv.
Jobs run in forks of this process; needs a Unix system.
"""
import contextlib, ctypes, json, os, random, re, signal, subprocess, sys, tempfile, time, traceback, warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from safetensors import safe_open
from transformers.utils import logging

from imbllm import ImbLLM, Training
from imbllm.benchmark import grid, read_cell, run
from imbllm.cli import CommandError, main as command, read_table, write_table
from imbllm.finetuning import CHECKPOINT
from study import arguments, save as save_rows, stamped

SMALL = dict(epochs=4, training=Training(batch_size=32), random_state=0, verbose=0)
HALF = dict(interpolation_ratio=.5)
METHODS = ["Imbalance", "RandomOver", "SMOTE-NC", "Swap50", "ImbLLM(epochs=1, candidates=1)"]

def table(n=300):
    "A small table and its labels, one in six rare."
    rng = np.random.default_rng(0)
    rich = np.arange(n) < n // 6
    X = pd.DataFrame(dict(Age=rng.integers(18, 80, n), Hours=rng.integers(20, 100, n) / 2,
                          Edu=np.where(rich, rng.choice(["BSc", "MSc"], n), rng.choice(["HS", "BSc"], n)),
                          Kids=rng.integers(0, 4, n)))
    return X, pd.Series(np.where(rich, "yes", "no"), name="rich")

@contextlib.contextmanager
def silent():
    with open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere): yield

# The jobs. Each writes into a folder whose parent has the table and a fitted model.

def kept_in(folder): return Training(**HALF, batch_size=32, checkpoint_dir=folder / "checkpoint", checkpoint_every=3)

def fit(folder):
    X, y = table()
    sampler = ImbLLM(**SMALL | dict(training=kept_in(folder))).fit(X, y)
    write_table(sampler.sample(40, random_state=0), folder / "rows.csv")

def oversampled(table, out):
    "The exit code of `imbllm oversample`."
    return command(["oversample", str(table), "--target", "rich", "-o", str(out), "--force", "--quiet"])

def oversample(folder):
    if oversampled(folder.parent / "train.csv", folder / "out.csv"): raise RuntimeError("the command failed")

def save(folder):
    sampler = ImbLLM.load(folder.parent / "model")
    for _ in range(25): sampler.save(folder / "model", overwrite=True)

def bench(folder, home=None, methods=METHODS, n_jobs=None):
    cells = grid([f"{(home or folder.parent) / 'train.csv'}:rich"], methods, [0, 1])
    run(cells, folder, n_jobs=n_jobs, verbose=False)

# What a job has finished is read with the readers of the package, which refuse what is not whole: name to contents.

def finished_model(folder):
    there = (folder / "model").exists() or list(folder.glob(".model.old"))
    return dict(model=ImbLLM.load(folder / "model").sample(5, random_state=0).to_csv()) if there else {}

def finished_cells(folder):
    paths = [path for path in folder.glob("*/*/*.json") if "rows" not in path.relative_to(folder).parts]
    def content(path): return json.dumps([read_cell(path)[k] for k in ("status", "scores", "diversity")])
    return {str(path.relative_to(folder)): content(path) for path in paths}

def finished_tables(folder):
    files = {path.name: read_table(path).to_csv() for path in folder.glob("*.csv")}
    path = folder / "checkpoint" / CHECKPOINT
    if path.exists():
        with safe_open(path, "pt") as f:
            for k in f.keys(): f.get_tensor(k)
            files["checkpoint"] = json.loads(f.metadata()["state"])["history"]["loss"]
    return files

FINISHED = {fit: finished_tables, oversample: finished_tables, save: finished_model, bench: finished_cells}

def kept(before, after):
    "Is all that was finished still there? A checkpoint may have gone on."
    def same(name, old): return after[name][:len(old)] == old if name == "checkpoint" else after[name] == old
    return all(name in after and same(name, old) for name, old in before.items())

def forked(job, *args, seconds=None):
    "Run `job` in a fork, and kill it after `seconds` if it still runs: did it end by itself?"
    start, pid = time.perf_counter(), os.fork()
    if not pid: run_and_exit(job, *args)
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if seconds is not None and time.perf_counter() - start >= seconds:
            os.kill(pid, signal.SIGKILL)
            done = os.waitpid(pid, 0)
            break
        time.sleep(.002)
    code = os.waitstatus_to_exitcode(done[1])
    if code not in (0, -signal.SIGKILL): raise RuntimeError(f"{job.__name__} failed by itself")
    return code == 0

def run_and_exit(job, *args):
    "What the fork does."
    code = 1
    try:
        warnings.simplefilter("ignore")
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere): job(*args)
        code = 0
    except BaseException: traceback.print_exc()
    finally: os._exit(code)

class Killed:
    "A job that is killed again and again, and what was wrong with its files."
    def __init__(self, job, home, rng):
        self.job = job
        self.home = home
        self.rng = rng
        self.found = dict.fromkeys(["corrupt", "lost", "different"], 0)
        start = time.perf_counter()
        whole = self.folder("whole")
        forked(job, whole)
        self.seconds = time.perf_counter() - start
        self.expected = FINISHED[job](whole)

    def folder(self, name):
        folder = self.home / f"{self.job.__name__}-{name}"
        folder.mkdir()
        return folder

    def once(self, folder, at_any_time):
        "Kill it once: did it end before?"
        before = FINISHED[self.job](folder)
        moment = self.rng.random() if at_any_time else self.rng.uniform(.8, 1.05)
        ended = forked(self.job, folder, seconds=self.seconds * moment)
        try: after = FINISHED[self.job](folder)
        except Exception:
            traceback.print_exc()
            self.found["corrupt"] += 1
            after = {}
        self.found["lost"] += not kept(before, after)
        if ended or self.found["corrupt"]: self.found["different"] += after != self.expected
        return ended

    def often(self, kills):
        "Kill it so many times: how often it was killed."
        folder, n = self.folder(0), 0
        for k in range(20 * kills):
            ended = self.once(folder, k % 2)
            n += not ended
            if ended or self.found["corrupt"]: folder = self.folder(k + 1) # whoever got through begins again elsewhere
            if n == kills: break
        if not ended: # the last one may end
            forked(self.job, folder)
            self.found["different"] += FINISHED[self.job](folder) != self.expected
        print(f"{self.job.__name__}: {n} kills, {self.seconds:.1f} s a run, {self.found}", flush=True)
        return n

@contextlib.contextmanager
def mounted(size):
    "A separate file system of so many KiB."
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", d], check=True)
        try: yield Path(d)
        finally: subprocess.run(["umount", d], check=True)

def remount(disk, mode): subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

def contents(folder, *without):
    files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {k: v for k, v in files.items() if k.parts[0] not in without}

def attempt(write, disk):
    "The error in which `write` ends, None without one."
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            write(disk)
    except Exception as e: return e

def writers(home, model):
    "Each way to write, a function of a disk."
    X, y = table()
    def checkpoint(d): ImbLLM(**SMALL | dict(training=kept_in(d))).fit(X, y)
    def over(d):
        code = oversampled(home / "train.csv", d / "out.csv")
        if code: raise (CommandError if code == 2 else OSError)(f"exit code {code}")
    return dict(checkpoint=checkpoint, save=lambda d: model.save(d / "model", overwrite=True),
                write_table=lambda d: write_table(pd.concat([X] * 99), d / "rows.csv"), oversample=over,
                bench=lambda d: bench(d / "bench", home))

def bad_disks(home):
    """Each writer on a full and on a read-only file system. Yields the attempt, the error, and True if the old files
    are left and the same call works once there is room."""
    model = ImbLLM.load(home / "model")
    expected = model.sample(5, random_state=0)
    for kind in ["full", "read-only"]:
        for name, write in writers(home, model).items():
            with mounted(8000) as disk:
                error, untouched, again = on_bad_disk(disk, kind, write)
                good = isinstance(error, (OSError, ValueError)) and untouched and again is None
                yield f"{kind} disk: {name}", error, good and model.sample(5, random_state=0).equals(expected)

def on_bad_disk(disk, kind, write):
    "The error of a writer, whether the old files were left, and the error once there is room."
    for name in ("rows.csv", "out.csv"): (disk / name).write_text("a\n1\n")
    (disk / "model").mkdir()
    (disk / "model" / "old").write_text("old")
    if kind == "full": (disk / "ballast").write_bytes(bytes(7980 * 1024))
    else: remount(disk, "ro")
    before, error = contents(disk, "ballast"), attempt(write, disk)
    untouched = contents(disk, "ballast", "bench") == before # cells that were finished may stay
    if kind == "full": (disk / "ballast").unlink()
    else: remount(disk, "rw")
    return error, untouched, attempt(write, disk)

@contextlib.contextmanager
def memory_limit(mib):
    "A group of processes that may have so many MiB; yields the file to which a process writes its number to join."
    one = Path("/sys/fs/cgroup/cgroup.controllers").exists() # else the hierarchies are apart
    root = Path("/sys/fs/cgroup") / ("" if one else "memory")
    group = root / f"imbllm-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.max" if one else "memory.limit_in_bytes")).write_text(str(mib * 2**20))
        yield group / "cgroup.procs"
    finally:
        for pid in (group / "cgroup.procs").read_text().split(): (root / "cgroup.procs").write_text(pid)
        group.rmdir()

def join(procs):
    procs.write_text(str(os.getpid()))
    time.sleep(.5)

def out_of_memory(home):
    """Both workers of a parallel job get too little memory for the package alone. Yields the attempt, the warnings, and
    True if the result is that of one process."""
    model = ImbLLM.load(home / "model")
    def cells(name, n_jobs):
        bench(home / name, home, METHODS[:2], n_jobs)
        return finished_cells(home / name)
    def sample(n_jobs): return model.sample(3000, random_state=0, n_jobs=n_jobs).to_csv()
    jobs = [("sample", sample(1), lambda: sample(2)), ("bench", cells("alone", 1), lambda: cells("killed", 2))]
    for what, expected, call in jobs:
        get_reusable_executor().shutdown(wait=True)
        with memory_limit(200) as procs, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            joblib.Parallel(n_jobs=2)(joblib.delayed(join)(procs) for _ in range(2))
            good = call() == expected
            died = [str(w.message) for w in caught if "died" in str(w.message)]
            get_reusable_executor().shutdown(wait=True)
        yield f"workers killed for want of memory: {what}", died, good and bool(died)

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

class _MallInfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def allocated():
    """What the process holds of the C library's heap, in MiB; NaN without glibc. Resident memory is more: Python's own
    objects, code, and what is free between the pieces."""
    try: found = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError): return float("nan")
    found.restype = _MallInfo
    info = found()
    return (info.uordblks + info.hblkhd) / 2**20

def soak(minutes):
    "Fit, save, load and sample for so long: a frame of rounds and of the process's memory in MiB, one row a minute."
    X, y = table()
    start = time.monotonic()
    rounds = 0
    seen = []
    def row(minute):
        memory = dict(resident_mib=round(resident(), 1), allocated_mib=round(allocated(), 2))
        return dict(minute=round(minute, 1), rounds=rounds) | memory
    with tempfile.TemporaryDirectory() as d:
        while (minute := (time.monotonic() - start) / 60) < minutes:
            ImbLLM(**SMALL | dict(random_state=rounds)).fit(X, y).save(f"{d}/model", overwrite=True)
            ImbLLM.load(f"{d}/model").sample(500)
            rounds += 1
            if minute >= len(seen): seen.append(row(minute))
    return pd.DataFrame([*seen, row(minutes)])

def soaked(minutes, folder):
    "The row that says what a soak showed; its curve goes into a file of its own."
    memory = soak(minutes)
    mib = memory.loc[memory["minute"] >= minutes / 6, "resident_mib"]
    made = stamped(f"reliability.py --jobs --soak {minutes:g}")
    memory.assign(**made).to_csv(folder / "soak.csv", index=False)
    detail = f"after a sixth of them: {mib.iloc[0]:.0f}, at the end: {mib.iloc[-1]:.0f}, highest: {mib.max():.0f}"
    return dict(check="soak: rounds of fit, save, load, sample", tried=int(memory["rounds"].max()), failed=0,
                detail=f"{minutes:g} minutes; resident MiB {detail}")

def checks(home, what, kills, rng):
    "Everything but the soak: rows of the results."
    root = sys.platform == "linux" and not os.geteuid()
    for job in [job for job in FINISHED if job.__name__ in what]:
        killed = Killed(job, home, rng)
        n = killed.often(kills)
        for wrong, failed in killed.found.items():
            yield dict(check=f"{job.__name__}: {wrong} after SIGKILL", tried=n, failed=failed, detail="")
    for check, error, good in bad_disks(home) if "disks" in what and root else ():
        message = f"{type(error).__name__}: {error}" if error else "no error"
        message = re.sub(r"[\w/.]*/tmp\w+/|\.\d+\.part", "", message)
        yield dict(check=check, tried=1, failed=int(not good), detail=message)
    for check, died, good in out_of_memory(home) if "memory" in what and root else ():
        yield dict(check=check, tried=1, failed=int(not good), detail=" ".join(died))

def main():
    args = arguments(__doc__, jobs=["fit", "oversample", "save", "bench", "disks", "memory"], kills=30, soak=0., seed=0)
    logging.disable_progress_bar()
    rows = []
    with tempfile.TemporaryDirectory() as d:
        home = Path(d)
        X, y = table()
        write_table(X.assign(rich=y), home / "train.csv")
        forked(lambda: ImbLLM(**SMALL).fit(X, y).save(home / "model"))
        for row in checks(home, args.jobs, args.kills, random.Random(args.seed)):
            print(row, flush=True)
            rows.append(row)
    if args.soak: rows.append(soaked(args.soak, args.results))
    save_rows([row | stamped("reliability.py") for row in rows], args.results / "reliability.csv", ["check"])

if __name__ == "__main__": main()
