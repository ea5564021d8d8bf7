"""What the runs of one call say together."""

import statistics

from filesystem.workloads import WORKLOADS


def summarise(results):
    for workload, by_mount in results.items():
        for entry in by_mount.values():
            good = [r for r in entry["runs"] if "error" not in r]
            if good:
                for key in ("value", "wall", "cpu", "cpu_group", "settle"):
                    if key in good[0]:
                        entry["median_" + key] = statistics.median(r[key] for r in good)
                entry["min"] = min(r["value"] for r in good)
                entry["max"] = max(r["value"] for r in good)
            entry["failed"] = len(entry["runs"]) - len(good)
            if entry["failed"]:
                entry["error"] = next(r["error"] for r in entry["runs"] if "error" in r)


def number(x):
    if x >= 100:
        return f"{x:.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def markdown(doc):
    names, ref, results = [m["name"] for m in doc["mounts"]], doc["reference"], doc["results"]
    out = []

    def table(title, unit_head, cell):
        out.extend(["", title, "", "| workload | " + unit_head + " | " + " | ".join(names) + " |",
                    "|---|---|" + "---:|" * len(names)])
        for w in results:
            out.append(f"| {w} | {cell(w, None)} | " + " | ".join(cell(w, n) for n in names) + " |")

    def value_cell(w, n):
        unit, higher = WORKLOADS[w][:2]
        if n is None:
            return unit
        e = results[w].get(n, {"failed": 1})
        if "median_value" not in e:
            return "FAILED"
        text = number(e["median_value"])
        base = results[w].get(ref, {}).get("median_value")
        if n != ref and base:
            ratio = e["median_value"] / base if higher else base / e["median_value"]
            text += f" ({ratio:.2f}x)"
        return text + (f" [{e['failed']} FAILED]" if e["failed"] else "")

    def plain(key):
        def cell(w, n):
            if n is None:
                return "s"
            e = results[w].get(n, {})
            return f"{e[key]:.2f}" if key in e else "FAILED"
        return cell

    table(f"Medians of {doc['reps']} runs; in brackets the performance relative to {ref} (above 1 is better, "
          "also for rows in seconds).", "unit", value_cell)
    if doc["options"].get("cpu_group"):
        table("CPU seconds of the harness and all processes of the filesystem during the timed section, without "
              "kernel threads (medians).", "", plain("median_cpu_group"))
    table("Busy CPU seconds of the whole machine, whoever used them, during the timed section (medians).", "",
          plain("median_cpu"))
    table("Seconds that a sync(2) took right after the timed section (medians): work left unflushed.", "",
          plain("median_settle"))
    failures = [(w, n, e) for w, by in results.items() for n, e in by.items() if e["failed"]]
    if failures:
        out.extend(["", "Failures:", ""])
        for w, n, e in failures:
            out.append(f"- {w} on {n}: {e['failed']} of {len(e['runs'])} runs: {e['error']}")
    return "\n".join(out).strip() + "\n"
