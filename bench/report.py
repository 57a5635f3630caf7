# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench tells: the table, the file of results, the plots."""
import datetime
import json
import os
import re
import subprocess


def number(value):
    if value == 0:
        return "0"
    for limit, digits in ((10_000, 0), (100, 0), (10, 1), (1, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}".replace(",", " ")
    return f"{value:.3f}"


def ratio(value):
    """Below a half it is written the other way round."""
    return f"1/{1 / value:.1f}" if value < 0.5 else f"{value:.2f}"


def met(figure):
    goal = figure.get("goal", 0)
    if not goal:
        return ""
    if "value" in figure:
        return "met" if (figure["value"] >= goal if figure.get("at_least") else figure["value"] <= goal) else "NOT MET"
    return "met" if figure["ratio"][1] <= goal else "NOT MET"


def goal_text(figure):
    goal = figure.get("goal", 0)
    if not goal:
        return ""
    if "value" in figure:
        return ("at least " if figure.get("at_least") else "at most ") + number(goal)
    return "at most " + ratio(goal)


def spread_text(values, unit):
    p10, median, p90 = values
    if p10 == p90:
        return f"{number(median)} {unit}"
    return f"{number(median)} {unit} ({number(p10)}-{number(p90)})"


def cells(figure):
    name = f"{figure['group']}: {figure['figure']}"
    if "value" in figure:
        return [name, f"{number(figure['value'])} {figure['unit']}", "", "", "", goal_text(figure), met(figure)]
    p10, median, p90 = figure["ratio"]
    spread = "" if p10 == p90 else f" ({ratio(p10)}-{ratio(p90)})"
    return [name, spread_text(figure["ours"], figure["unit"]), figure["peer"], spread_text(figure["theirs"], figure["unit"]),
            ratio(median) + spread, goal_text(figure), met(figure)]


def line_of(figure):
    return "  ".join(cell for cell in cells(figure) if cell)


def table(figures):
    rows = [["figure", "ours", "peer", "theirs", "ours to theirs", "goal", ""]] + [cells(f) for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def machine():
    lscpu = dict(re.findall(r"^([^:]+):\s*(.*)$", output("lscpu"), re.M))
    with open("/proc/meminfo", encoding="utf-8") as meminfo:
        memory_kib = int(meminfo.readline().split()[1])
    with open("/etc/os-release", encoding="utf-8") as release:
        system = re.search(r'PRETTY_NAME="(.*)"', release.read()).group(1)
    return {"cpu": lscpu.get("Model name", "?"), "cpus": os.cpu_count(), "l3": lscpu.get("L3 cache", lscpu.get("L3", "?")),
            "memory_mib": memory_kib // 1024, "virtualization": lscpu.get("Hypervisor vendor", "none"),
            "kernel": os.uname().release, "system": system, "compiler": output("cc", "--version").splitlines()[0],
            "redis": output("redis-server", "--version").split()[2], "memcached": output("memcached", "--version").split()[-1]}


def write(directory, figures, series, build, quick):
    import plots  # wants matplotlib, which a table does not

    now = datetime.datetime.now(datetime.timezone.utc)
    about = machine()
    version = output(os.path.join(build, "tools", "etagctl"), "--version").split()[-1]
    word = re.sub(r"[^a-z0-9]+", "-", about["cpu"].lower()).strip("-")
    if quick:
        directory = os.path.join(directory, "latest")  # nothing to keep
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"{now:%Y-%m-%d}-{word}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"date": now.isoformat(timespec="seconds"), "version": version, "quick": quick, "machine": about,
                   "figures": figures, "series": series}, file, indent=1)
        file.write("\n")
    with open(path[:-5] + ".txt", "w", encoding="utf-8") as file:
        file.write(f"{now:%Y-%m-%d}, {about['cpu']}, {about['cpus']} CPUs, {about['memory_mib']} MiB, {about['kernel']}\n\n{table(figures)}\n")
    plots.draw(path[:-5] + ".svg", figures, series)
    return path
