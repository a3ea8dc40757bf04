"Draw nbs/images/idea.png, the picture of the idea in README: `python tools/idea.py`."
from pathlib import Path
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8a8f98"
INK = "#1b1f24"
GIVEN = [
    ("<200K", "HS-grad", "40"), ("<200K", "Bachelor", "38"), (">=200K", "Master", "52"), (">=200K", "Bachelor", "35.5"),
    ("<200K", "HS-grad", "20")]
NEW = [(">=200K", "Master", "47.5"), (">=200K", "Bachelor", "41"), (">=200K", "Master", "39.5")]

def table(ax, x, y, rows, title):
    "A small table, minority rows coloured."
    ax.text(x + 1.05, y + .42, title, ha="center", weight="bold", color=INK, size=10)
    at = [x, x + .95, x + 1.85]
    for left, name in zip(at, ["Income", "Edu", "WH"]): ax.text(left, y, name, size=9, weight="bold", color=INK)
    for i, row in enumerate(rows, 1):
        colour = ORANGE if row[0] == ">=200K" else GREY
        for left, v in zip(at, row): ax.text(left, y - .3 * i, v, size=9, color=colour)

def box(ax, x, y, w, h, text, colour, size=9):
    "A rounded box with text."
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=.06", fc="white", ec=colour, lw=1.5))
    ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", size=size, color=INK, linespacing=1.5)

def arrow(ax, a, b): ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=14, color=INK, lw=1.2))

fig, ax = plt.subplots(figsize=(12, 3.3))
table(ax, 0, 2.3, GIVEN, "an imbalanced table")
sentences = """Income is >=200K, Edu is Bachelor, WH is 35.5
Income is >=200K, WH is 35.5, Edu is Bachelor
… and rows interpolated between such rows"""
box(ax, 3.2, 1.62, 3.3, .85, sentences, ORANGE, 7.3)
ax.text(4.85, 2.72, "rare rows as sentences, label first", ha="center", weight="bold", size=9, color=INK)
box(ax, 7.2, 1.62, 1.5, .85, "language\nmodel", BLUE, 11)
box(ax, 3.2, .18, 3.3, .6, "prompt:  Income is >=200K, Edu is Master, …", ORANGE, 8)
ax.text(4.85, -.12, "label and one random feature", ha="center", size=8.5, color=INK)
box(ax, 7.2, .18, 1.5, .6, "grammar:\nvalid values only", BLUE, 8)
table(ax, 9.5, 2.3, NEW, "new rare rows, all valid")
aim = "added to the table:\nso that a classifier\nfinds more of them"
ax.text(10.6, .62, aim, ha="center", va="center", size=9, color=INK, linespacing=1.5)
for a, b in [
    ((2.5, 2.05), (3.1, 2.05)), ((6.6, 2.05), (7.1, 2.05)), ((8.8, 2.05), (9.4, 2.05)),
    ((6.6, .48), (7.1, .48)), ((7.95, .86), (7.95, 1.52))]: arrow(ax, a, b)
ax.set(xlim=(-.1, 12), ylim=(-.3, 3))
ax.axis("off")
picture = Path(__file__).parent.parent/"nbs/images/idea.png"
fig.savefig(picture, dpi=110, bbox_inches="tight", metadata={"Software": None})
