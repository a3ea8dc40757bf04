"""What helps when: methods, minority sizes and four classifiers on three tables of the paper.

Writes results/curves.csv.

    IMBLLM_DATA=folder python benchmarks/curves.py --out FOLDER [--seeds 0 1] [--jobs N]

`q` is the kept share of the training minority. FOLDER stores the cells, and finished ones are not measured again.
"""
from pathlib import Path

from imbllm.benchmark import grid
from imbllm.results import results_frame
from study import arguments, run_grid

TABLES = ["german", "bank", "sick"]
METHODS = ["Imbalance", "ClassWeight", "Threshold-prior", "SMOTE-NC", "Swap50", "ImbLLM", "ImbLLM-classifier"]
CLASSIFIERS = "xgboost", "forest", "logistic", "neural"
Q = [.02, .05, .1, .2, .5, 1.]

def main():
    args = arguments(__doc__, out=Path, seeds=[0, 1], tables=TABLES, methods=METHODS, q=Q)
    for seed in args.seeds:
        cells = grid(args.tables, args.methods, [seed], q=args.q, classifiers=CLASSIFIERS)
        run_grid(f"seed {seed}", cells, args.out, args.jobs)
        found = results_frame(args.out).assign(command="python benchmarks/curves.py").dropna(axis=1, how="all")
        found.to_csv(args.results / "curves.csv", index=False, float_format="%.4f")

if __name__ == "__main__": main()
