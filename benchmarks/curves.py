"""What helps when: methods, minority sizes and four classifiers on three tables of the paper: writes results/curves.csv.

    IMBLLM_DATA=folder python benchmarks/curves.py --out FOLDER [--seeds 0,1] [--jobs N]

`q` is the share of the training minority that is kept. Cells lie in FOLDER and are not measured again.
"""
import argparse, warnings
from pathlib import Path
from imbllm.benchmark import grid, results_frame, run

RESULTS = Path(__file__).parent.parent / "results"
TABLES, Q = ["german", "bank", "sick"], [.02, .05, .1, .2, .5, 1.]
METHODS = ["Imbalance", "ClassWeight", "Threshold-prior", "SMOTE-NC", "Swap50", "ImbLLM", "ImbLLM-classifier"]

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True); args.add_argument("--jobs", type=int); args.add_argument("--seeds", default="0,1")
    args = args.parse_args()
    warnings.filterwarnings("ignore")
    for seed in map(int, args.seeds.split(",")):
        failed = [r for r in run(grid(TABLES, METHODS, [seed], q=Q, classifiers=("xgboost", "forest", "logistic", "neural")), args.out, n_jobs=args.jobs) if r["status"] == "failed"]
        print("seed", seed, *(f"failed: {r['cell']['dataset']}, {r['cell']['method']}, q={r['cell']['q']}: {r['error']}" for r in failed), sep="\n  ", flush=True)
        results_frame(args.out).assign(command="python benchmarks/curves.py").dropna(axis=1, how="all").to_csv(RESULTS / "curves.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
