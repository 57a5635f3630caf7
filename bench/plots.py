# SPDX-License-Identifier: Apache-2.0
"""One page of plots of a result file, as SVG."""
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

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
