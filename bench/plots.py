# SPDX-License-Identifier: Apache-2.0
"""Plots of a result file, as SVG: a page of all that it has, which a run makes, and the one plot that the README shows.

usage: /usr/bin/python3 bench/plots.py RESULTS.json docs/performance.svg
"""
import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

# The text stays text, and the same figures make the same file.
plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "etagd", "font.family": "sans-serif"})
OURS, THEIRS, GOAL = "#1f5fa8", "#b0b0b0", "#c23b22"


def median(figure, side):
    return figure[side][1]


def draw_peers(axes, figures):
    """Nanoseconds of a lookup at the largest size that every peer was measured at."""
    rows = [f for f in figures if f["group"] == "lookup" and f["figure"].startswith("304") and "ratio" in f and
            any(word in f["peer"] for word in ("ck_ht", "LMDB", "Redis", "memcached")) and "100 k" in f["figure"] + f["figure"].replace("1 M", "100 k")]
    rows.sort(key=lambda f: median(f, "theirs"))
    names = [f["peer"] for f in rows]
    axes.barh(names, [median(f, "theirs") for f in rows], color=THEIRS)
    if rows:
        ours = sorted(median(f, "ours") for f in rows)[len(rows) // 2]
        axes.axvline(ours, color=OURS, label=f"etag_check, {ours:.0f} ns")
        axes.legend()
    axes.set_xscale("log")
    axes.set_xlabel("ns a request")
    axes.set_title("A tag from elsewhere; the line is a whole 304 of ours")


def draw_scale(axes, series):
    points = series.get("scale", [])
    def line(peer, side, word, style, color):
        values = []
        for point in points:
            found = [f for f in point["lookup"] if peer in f["peer"] and "uniform" in f["figure"] and f["figure"].startswith("304")]
            if found:
                values.append((point["entries"], median(found[0], side)))
        if values:
            axes.plot(*zip(*values), style, color=color, label=word)
    line("ck_ht", "ours", "etag_check", "o-", OURS)
    line("ck_ht", "theirs", "ck_ht + memcmp", "s--", THEIRS)
    line("random load", "theirs", "one random load", "x:", GOAL)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("entries")
    axes.set_ylabel("ns")
    axes.set_title("A lookup by the number of entries")
    axes.legend()


def draw_invalidate(axes, series):
    points = series.get("scale", [])
    for word, style in (("median", "o-"), ("p99", "s--"), ("p99.9", "x:")):
        values = [(p["entries"], f["value"]) for p in points for f in p["invalidate"] if f["figure"].endswith(" " + word)]
        if values:
            axes.plot(*zip(*values), style, label=word)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("entries")
    axes.set_ylabel("us")
    axes.set_title("An invalidation, call to return")
    axes.legend()


def draw_false(axes, series):
    found = series.get("false")
    if not found:
        return
    points = found["points"]
    changes = [p["changes"] for p in points]
    axes.plot(changes, [100 * p["formula"] for p in points], "-", color=GOAL, label="formula")
    axes.plot(changes, [100 * p["simulated"] for p in points], "x:", color="black", label="simulated")
    axes.errorbar(changes, [100 * p["measured"] for p in points],
                  yerr=[[100 * (p["measured"] - p["least"]) for p in points], [100 * (p["most"] - p["measured"]) for p in points]],
                  fmt="o", color=OURS, label=f"measured, {found['runs']} hash keys")
    axes.set_xlabel(f"changes of other things ({found['clocks']} clocks, {found['clocks_per_entry']} an entry)")
    axes.set_ylabel("% of entries stale")
    axes.set_title("False invalidations")
    axes.legend()


def draw(path, figures, series):
    page, axes = plt.subplots(2, 2, figsize=(14, 9))
    draw_peers(axes[0][0], figures)
    draw_scale(axes[0][1], series)
    draw_invalidate(axes[1][0], series)
    draw_false(axes[1][1], series)
    page.tight_layout()
    page.savefig(path)
    plt.close(page)


def duration(ns):
    return f"{ns:.0f} ns" if ns < 1000 else f"{ns / 1000:.1f} us"


def draw_summary(path, results):
    """A tag from elsewhere beside a whole 304 of ours: of the same rounds, at 1 M entries."""
    size = "1 M entries, uniform"
    rows = [f for f in results["figures"] if f["group"] == "lookup" and f["figure"] in (f"304, {size}", f"304, a key, {size}") and "ratio" in f
            and "random load" not in f["peer"]]
    rows.sort(key=lambda f: median(f, "theirs"))
    ours = sorted(median(f, "ours") for f in rows)[len(rows) // 2]
    names = ["etag_check(): a whole 304"] + [f["peer"].replace(", 64 at once", ", in batches of 64") for f in rows]
    values = [ours] + [median(f, "theirs") for f in rows]
    notes = [duration(ours)] + [f"{duration(median(f, 'theirs'))}, {median(f, 'theirs') / median(f, 'ours'):.1f} times ours" for f in rows]
    page, axes = plt.subplots(figsize=(9, 0.38 * len(rows) + 1.4))
    places = range(len(values), 0, -1)
    axes.barh(places, values, color=[OURS] + [THEIRS] * len(rows), height=0.7)
    for place, value, note in zip(places, values, notes):
        axes.text(value * 1.08, place, note, va="center", fontsize=10)
    axes.set_yticks(places, names, fontsize=10)
    axes.set_xscale("log")
    axes.set_xlim(100, max(values) * 30)
    axes.set_xlabel("ns a request (logarithmic), median; times: of the same rounds")
    axes.set_title(f"To find out the current tag, {size.split(',', maxsplit=1)[0]}: {results['machine']['cpu']}, {results['date'][:10]}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    page.tight_layout()
    page.savefig(path, metadata={"Date": None})
    plt.close(page)
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip() for line in file]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        draw_summary(sys.argv[2], json.load(file))
