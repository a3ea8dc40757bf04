"""What happens to files when a process is killed, or a disk is full or read-only: writes results/reliability.csv.

    python benchmarks/reliability.py [--jobs fit oversample save bench disks memory] [--kills 30] [--soak 0]

Four jobs are killed by SIGKILL, each `--kills` times, half of them at a moment drawn from the whole of the job's time and half from its end, where files get their names: fitting with checkpoints and writing rows; `imbllm oversample`; saving a model over
itself again and again; a benchmark grid. A killed job is started again in the same folder. After each kill whatever stands under a final name must be whole, and what was finished must still be there; at the end the files must equal those of a run that nobody disturbed.
As root on Linux the same writers also meet a full and a read-only file system: one clear error, the old files untouched, an object that can be used, and the same call works once there is room. There the kernel also kills workers of `sample(n_jobs=2)` and of a benchmark grid for want of memory: the result must be that of one process. `--soak MINUTES` fits, saves, loads and samples for so long, and writes the memory of the process to results/soak.csv. Jobs run in forks of this process; needs a Unix system.
"""
import argparse, contextlib, ctypes, json, os, random, re, signal, subprocess, sys, tempfile, time, traceback, warnings
from pathlib import Path
import joblib
import numpy as np
import pandas as pd
from imbllm import ImbLLM
from imbllm.benchmark import grid, read_cell, run, stamp
from imbllm.cli import main as command, read_table, write_table
from imbllm.finetuning import CHECKPOINT
from joblib.externals.loky import get_reusable_executor
from safetensors import safe_open
from transformers.utils import logging

RESULTS = Path(__file__).parent.parent / "results/reliability.csv"
SOAK = RESULTS.with_name("soak.csv")
SMALL = dict(epochs=4, batch_size=32, interpolation_ratio=.5, random_state=0, verbose=0)

def table(n=300):
    rng = np.random.default_rng(0)
    rich = np.arange(n) < n // 6
    X = pd.DataFrame(dict(Age=rng.integers(18, 80, n), Hours=rng.integers(20, 100, n) / 2, Edu=np.where(rich, rng.choice(["BSc", "MSc"], n), rng.choice(["HS", "BSc"], n)), Kids=rng.integers(0, 4, n)))
    return X, pd.Series(np.where(rich, "yes", "no"), name="rich")

def fit(folder):
    X, y = table()
    sampler = ImbLLM(**SMALL, checkpoint_dir=folder / "checkpoint", checkpoint_every=3).fit(X, y)
    write_table(sampler.sample(40, random_state=0), folder / "rows.csv")

def oversample(folder):
    if command(["oversample", str(folder.parent / "train.csv"), "--target", "rich", "-o", str(folder / "out.csv"), "--force", "--quiet"]): raise RuntimeError("the command failed")

def save(folder):
    sampler = ImbLLM.load(folder.parent / "model")
    for _ in range(25): sampler.save(folder / "model", overwrite=True)

def bench(folder, home=None):
    run(grid([f"{(home or folder.parent) / 'train.csv'}:rich"], ["Imbalance", "RandomOver", "SMOTE-NC", "Swap50", "ImbLLM(epochs=1, candidates=1)"], [0, 1]), folder, verbose=False)

def finished(job, folder):
    "What stands under final names, read with the readers of the package, which refuse what is not whole: name to contents."
    files = {}
    if job is save:
        if (folder / "model").exists() or list(folder.glob(".model.old")): files["model"] = ImbLLM.load(folder / "model").sample(5, random_state=0).to_csv()
    elif job is bench:
        for path in folder.glob("*/*/*.json"):
            if "rows" not in path.relative_to(folder).parts: files[str(path.relative_to(folder))] = json.dumps([read_cell(path)[k] for k in ("status", "scores", "diversity")])
    else:
        for path in folder.glob("*.csv"): files[path.name] = read_table(path).to_csv()
        if (path := folder / "checkpoint" / CHECKPOINT).exists():
            with safe_open(path, "pt") as f: files["checkpoint"] = json.loads(f.metadata()["state"])["history"]["loss"] if [f.get_tensor(k) for k in f.keys()] else None
    return files

def kept(before, after):
    "Is all that was finished still there? A checkpoint may have gone on."
    return all(name in after and (after[name][:len(old)] == old if name == "checkpoint" else after[name] == old) for name, old in before.items())

def forked(job, *args, seconds=None):
    "Run `job` in a fork, and kill it after `seconds` if it still runs: True if it ended by itself, False if it was killed."
    start, pid = time.perf_counter(), os.fork()
    if not pid:
        code = 1
        try:
            warnings.simplefilter("ignore")
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere): job(*args)
            code = 0
        except BaseException: traceback.print_exc()
        finally: os._exit(code)
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if seconds is not None and time.perf_counter() - start >= seconds:
            os.kill(pid, signal.SIGKILL)
            done = os.waitpid(pid, 0)
            break
        time.sleep(.002)
    code = os.waitstatus_to_exitcode(done[1])
    if code not in (0, -signal.SIGKILL): raise RuntimeError(f"{job.__name__} failed by itself")
    return code == 0

def killed(job, home, kills, rng):
    "Kill a job so many times; counts of what was looked at and what was wrong."
    def started(name): (folder := home / name).mkdir(); return folder
    start, whole = time.perf_counter(), started(f"{job.__name__}-whole")
    forked(job, whole)
    seconds, expected = time.perf_counter() - start, finished(job, whole)
    folder, found, n = started(f"{job.__name__}-0"), dict.fromkeys(["corrupt", "lost", "different"], 0), 0
    for k in range(20 * kills):
        before = finished(job, folder)
        ended = forked(job, folder, seconds=seconds * (rng.random() if k % 2 else rng.uniform(.8, 1.05)))
        n += not ended
        try: after = finished(job, folder)
        except Exception: traceback.print_exc(); found["corrupt"] += 1; after = {}
        found["lost"] += not kept(before, after)
        if ended or found["corrupt"]: # whoever got through begins again elsewhere
            found["different"] += after != expected
            folder = started(f"{job.__name__}-{k + 1}")
        if n == kills: break
    if not ended: # the last one may end
        forked(job, folder)
        found["different"] += finished(job, folder) != expected
    print(f"{job.__name__}: {n} kills, {seconds:.1f} s a run, {found}", flush=True)
    return n, found

@contextlib.contextmanager
def mounted(size):
    "A file system of its own, of so many KiB."
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", d], check=True)
        try: yield Path(d)
        finally: subprocess.run(["umount", d], check=True)

def contents(folder): return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

def attempt(write, disk):
    "The error in which `write` ends, None without one."
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(open(os.devnull, "w")): warnings.simplefilter("ignore"); write(disk)
    except Exception as e: return e

def bad_disks(home):
    "Each writer on a full and on a read-only file system: yields what was tried, the error, and whether the old files were left, and the same call works once there is room."
    X, y = table()
    model = ImbLLM.load(home / "model")
    expected = model.sample(5, random_state=0)
    writers = {"checkpoint": lambda d: ImbLLM(**SMALL, checkpoint_dir=d / "checkpoint", checkpoint_every=3).fit(X, y), "save": lambda d: model.save(d / "model", overwrite=True), "write_table": lambda d: write_table(pd.concat([X] * 99), d / "rows.csv"),
        "oversample": lambda d: oversample_or_raise(home, d), "bench": lambda d: bench(d / "bench", home)}
    for kind in ["full", "read-only"]:
        for name, write in writers.items():
            with mounted(8000) as disk:
                (disk / "rows.csv").write_text("a\n1\n"); (disk / "out.csv").write_text("a\n1\n")
                (disk / "model").mkdir(); (disk / "model" / "old").write_text("old")
                if kind == "full": (disk / "ballast").write_bytes(bytes(7980 * 1024))
                else: subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                before, error = contents(disk), attempt(write, disk)
                after = {k: v for k, v in contents(disk).items() if k.parts[0] != "bench"} # cells that were finished may stay
                if kind == "full": (disk / "ballast").unlink()
                else: subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
                before.pop(Path("ballast"), None); after.pop(Path("ballast"), None)
                again = attempt(write, disk)
                yield f"{kind} disk: {name}", error, isinstance(error, (OSError, ValueError)) and after == before and again is None and model.sample(5, random_state=0).equals(expected)

def oversample_or_raise(home, disk):
    from imbllm.cli import CommandError
    with contextlib.redirect_stderr(open(os.devnull, "w")): code = command(["oversample", str(home / "train.csv"), "--target", "rich", "-o", str(disk / "out.csv"), "--force", "--quiet"])
    if code: raise (CommandError if code == 2 else OSError)(f"exit code {code}")

@contextlib.contextmanager
def memory_limit(mib):
    "A group of processes that may have so many MiB; yields the file to which a process writes its number to join."
    one = Path("/sys/fs/cgroup/cgroup.controllers").exists() # else the hierarchies are apart
    root = Path("/sys/fs/cgroup") / ("" if one else "memory")
    (group := root / f"imbllm-{os.getpid()}").mkdir()
    try:
        (group / ("memory.max" if one else "memory.limit_in_bytes")).write_text(str(mib * 2**20))
        yield group / "cgroup.procs"
    finally:
        for pid in (group / "cgroup.procs").read_text().split(): (root / "cgroup.procs").write_text(pid)
        group.rmdir()

def join(procs): procs.write_text(str(os.getpid())); time.sleep(.5)

def out_of_memory(home):
    "Both workers of a parallel job get too little memory for the package alone: yields what was tried, the warnings, and whether the result is that of one process."
    model = ImbLLM.load(home / "model")
    folders = [home / "grid-alone", home / "grid-killed"]
    def cells(folder, n_jobs): run(grid([f"{home / 'train.csv'}:rich"], ["Imbalance", "RandomOver"], [0, 1]), folder, n_jobs=n_jobs, verbose=False); return finished(bench, folder)
    for what, expected, call in [("sample", model.sample(3000, random_state=0).to_csv(), lambda: model.sample(3000, random_state=0, n_jobs=2).to_csv()), ("bench", cells(folders[0], 1), lambda: cells(folders[1], 2))]:
        get_reusable_executor().shutdown(wait=True)
        with memory_limit(200) as procs, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            joblib.Parallel(n_jobs=2)(joblib.delayed(join)(procs) for _ in range(2))
            good, died = call() == expected, [str(w.message) for w in caught if "died" in str(w.message)]
            get_reusable_executor().shutdown(wait=True)
        yield f"workers killed for want of memory: {what}", died, good and bool(died)

def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

class _MallInfo(ctypes.Structure): _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

def allocated():
    "What the process holds of the C library's heap, in MiB; NaN without glibc. Resident memory is more: Python's own objects, code, and what is free between the pieces."
    try: found = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError): return float("nan")
    found.restype = _MallInfo
    info = found()
    return (info.uordblks + info.hblkhd) / 2**20

def soak(minutes):
    "Fit, save, load and sample for so long: a frame of rounds so far and of the process's memory in MiB, one row a minute."
    X, y = table()
    start, rounds, seen = time.monotonic(), 0, []
    def row(minute): return dict(minute=round(minute, 1), rounds=rounds, resident_mib=round(resident(), 1), allocated_mib=round(allocated(), 2))
    with tempfile.TemporaryDirectory() as d:
        while (minute := (time.monotonic() - start) / 60) < minutes:
            ImbLLM(**SMALL | dict(random_state=rounds)).fit(X, y).save(f"{d}/model", overwrite=True)
            ImbLLM.load(f"{d}/model").sample(500)
            rounds += 1
            if minute >= len(seen): seen.append(row(minute))
    return pd.DataFrame([*seen, row(minutes)])

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--jobs", nargs="*", default=["fit", "oversample", "save", "bench", "disks", "memory"]); args.add_argument("--kills", type=int, default=30); args.add_argument("--soak", type=float, default=0); args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()
    rows, rng = [], random.Random(args.seed)
    logging.disable_progress_bar()
    def note(check, tried, failed, detail=""):
        rows.append(dict(check=check, tried=tried, failed=failed, detail=detail)); print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory() as d:
        home = Path(d)
        X, y = table()
        write_table(X.assign(rich=y), home / "train.csv")
        forked(lambda: ImbLLM(**SMALL).fit(X, y).save(home / "model"))
        for job in [job for job in [fit, oversample, save, bench] if job.__name__ in args.jobs]:
            n, found = killed(job, home, args.kills, rng)
            for what, failed in found.items(): note(f"{job.__name__}: {what} after SIGKILL", n, failed)
        if "disks" in args.jobs and sys.platform == "linux" and not os.geteuid():
            for what, error, good in bad_disks(home): note(what, 1, int(not good), re.sub(r"[\w/.]*/tmp\w+/|\.\d+\.part", "", f"{type(error).__name__}: {error}") if error else "no error")
        if "memory" in args.jobs and sys.platform == "linux" and not os.geteuid():
            for what, died, good in out_of_memory(home): note(what, 1, int(not good), " ".join(died))
    if args.soak:
        memory = soak(args.soak)
        after = memory[memory["minute"] >= args.soak / 6]
        note("soak: rounds of fit, save, load, sample", int(memory["rounds"].max()), 0, f"{args.soak:g} minutes; resident MiB after a sixth of them: {after['resident_mib'].iloc[0]:.0f}, at the end: {after['resident_mib'].iloc[-1]:.0f}, highest: {after['resident_mib'].max():.0f}")
        memory.assign(command=f"python benchmarks/reliability.py --jobs --soak {args.soak:g}", **stamp()).to_csv(SOAK, index=False)
    stamped = dict(command="python benchmarks/reliability.py") | stamp()
    old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["check"])
    new = pd.DataFrame(rows).assign(**stamped)
    pd.concat([old[~old["check"].isin(new["check"])], new]).astype({"tried": int, "failed": int}).to_csv(RESULTS, index=False)

if __name__ == "__main__": main()
