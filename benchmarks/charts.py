"""Draws the charts of docs/performance.md: `python charts.py RESULTS DIRECTORY`.

Its environment has matplotlib alone. The same results give the same files, byte for byte.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

OURS = "#1f6feb"
OTHERS = "#8b949e"
SERVICES = {"gateway": "#1f6feb", "orchestrator": "#8250df", "shield": "#1a7f37", "inference": "#8b949e"}
Seen = dict[str, dict[str, list[dict[str, Any]]]]  # Any: JSON


def main() -> None:
    """Draws them all."""
    results = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(sys.argv[2])
    mpl.rcParams.update(
        {
            "svg.hashsalt": "shieldmesh",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    peers(results["titles"], results["seen"], directory / "performance-peers.svg")
    services(results["seen"], directory / "performance-services.svg")
    sweep(results["seen"], directory / "performance-streams.svg")


def peers(titles: dict[str, str], seen: Seen, path: Path) -> None:
    """Processor time for a token, all systems, on a scale of factors."""
    costs = {name: cost(seen, name, "steady") for name in titles if not name.startswith("mesh-") or "http" in name}
    bars = sorted(((name, value) for name, value in costs.items() if value), key=lambda bar: -bar[1])
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(bars) + 1), layout="constrained")
    colours = [OURS if name.startswith("mesh") else OTHERS for name, _ in bars]
    labels = [titles[name] + (" (HTTP upstream)" if name.startswith("mesh-http") else "") for name, _ in bars]
    drawn = axes.barh(labels, [value for _, value in bars], color=colours)
    axes.bar_label(drawn, fmt=" {:.0f}")
    axes.set_xscale("log")
    axes.set_xlabel("µs of processor time for a token, 16 streams at 50 tokens/s (logarithmic)")
    save(figure, path)


def services(seen: Seen, path: Path) -> None:
    """Processor time for a token, service by service."""
    names = [name for name in ("steady", "paced", "saturated", "short", "long") if seen.get("mesh", {}).get(name)]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    left = [0.0] * len(names)
    for service, colour in SERVICES.items():
        values = [of_service(seen["mesh"][name], service) for name in names]
        axes.barh(names, values, left=left, color=colour, label=service)
        left = [before + value for before, value in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("µs of processor time for a token")
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    save(figure, path)


def sweep(seen: Seen, path: Path) -> None:
    """How cost and delay grow with the streams."""
    rounds = {name: runs for name, runs in seen.get("mesh", {}).items() if name.startswith("sweep-")}
    streams = [int(name.removeprefix("sweep-")) for name in rounds]
    costs = [median(total(run) for run in runs) for runs in rounds.values()]
    gaps = [median((run["system"]["gap"] or [0, 0])[1] * 1e3 for run in runs) for runs in rounds.values()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    for axes, values, label in ((left, costs, "µs CPU for a token"), (right, gaps, "gap between tokens, p99, ms")):
        axes.plot(streams, values, marker="o", color=OURS)
        axes.set_xscale("log", base=2)
        axes.set_xticks(streams, [str(number) for number in streams])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("open streams at 10 tokens/s")
        axes.set_ylabel(label)
    save(figure, path)


def cost(seen: Seen, system: str, scenario: str) -> float:
    """Microseconds for a token; 0 when it was not measured."""
    runs = [run for run in seen.get(system, {}).get(scenario, []) if run["system"]["tokens_per_second"]]
    return median(total(run) for run in runs) if runs else 0.0


def total(run: dict[str, Any]) -> float:
    """Microseconds for a token, of all services."""
    return float(sum(run["system"]["cpu_per_token"].values())) * 1e6


def of_service(runs: list[dict[str, Any]], service: str) -> float:
    """Microseconds for a token."""
    return float(median(run["system"]["cpu_per_token"].get(service, 0.0) for run in runs)) * 1e6


def save(figure: Figure, path: Path) -> None:
    """Writes a file without the date."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
