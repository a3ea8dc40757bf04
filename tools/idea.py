"Draw nbs/images/idea.png, the picture of the idea in README: `python tools/idea.py`."
from pathlib import Path
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8a8f98", "#1b1f24"
GIVEN = [("<200K", "HS-grad", "40"), ("<200K", "Bachelor", "38"), (">=200K", "Master", "52"), (">=200K", "Bachelor", "35.5"), ("<200K", "HS-grad", "20")]
NEW = [(">=200K", "Master", "47.5"), (">=200K", "Bachelor", "41"), (">=200K", "Master", "39.5")]

def table(ax, x, y, rows, title):
    "A small table, minority rows coloured."
    ax.text(x + 1.05, y + .42, title, ha="center", weight="bold", color=INK, size=10)
    for j, name in enumerate(["Income", "Edu", "WH"]): ax.text(x + (0, .95, 1.85)[j], y, name, size=9, weight="bold", color=INK)
    for i, row in enumerate(rows):
        for j, v in enumerate(row): ax.text(x + (0, .95, 1.85)[j], y - .3 * (i + 1), v, size=9, color=ORANGE if row[0] == ">=200K" else GREY)

def box(ax, x, y, w, h, text, colour, size=9):
    "A rounded box with text."
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=.06", fc="white", ec=colour, lw=1.5))
    ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", size=size, color=INK, linespacing=1.5)

def arrow(ax, a, b): ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=14, color=INK, lw=1.2))

fig, ax = plt.subplots(figsize=(12, 3.3))
table(ax, 0, 2.3, GIVEN, "an imbalanced table")
box(ax, 3.2, 1.62, 3.3, .85, "Income is >=200K, Edu is Bachelor, WH is 35.5\nIncome is >=200K, WH is 35.5, Edu is Bachelor\n… and rows interpolated between such rows", ORANGE, 7.3)
ax.text(4.85, 2.72, "rare rows as sentences, label first", ha="center", weight="bold", size=9, color=INK)
box(ax, 7.2, 1.62, 1.5, .85, "language\nmodel", BLUE, 11)
box(ax, 3.2, .18, 3.3, .6, "prompt:  Income is >=200K, Edu is Master, …", ORANGE, 8)
ax.text(4.85, -.12, "label and one random feature", ha="center", size=8.5, color=INK)
box(ax, 7.2, .18, 1.5, .6, "grammar:\nvalid values only", BLUE, 8)
table(ax, 9.5, 2.3, NEW, "new rare rows, all valid")
ax.text(10.6, .62, "added to the table:\nso that a classifier\nfinds more of them", ha="center", va="center", size=9, color=INK, linespacing=1.5)
arrow(ax, (2.5, 2.05), (3.1, 2.05)); arrow(ax, (6.6, 2.05), (7.1, 2.05)); arrow(ax, (8.8, 2.05), (9.4, 2.05))
arrow(ax, (6.6, .48), (7.1, .48)); arrow(ax, (7.95, .86), (7.95, 1.52))
ax.set(xlim=(-.1, 12), ylim=(-.3, 3)); ax.axis("off")
fig.savefig(Path(__file__).parent.parent / "nbs/images/idea.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
