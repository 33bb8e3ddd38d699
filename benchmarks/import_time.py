"""Time of ``import ensemblefuse`` as a ratio to ``import sklearn.ensemble``, medians of 7 fresh processes each.

Run: python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time


def seconds(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {"ensemblefuse": [], "sklearn.ensemble": []}
    for module in times:
        seconds(module)  # byte code and disk cache
    for _ in range(7):
        for module, taken in times.items():
            taken.append(seconds(module))
    ours, theirs = (statistics.median(taken) for taken in times.values())
    print(f"import ensemblefuse {ours:.3f} s, import sklearn.ensemble {theirs:.3f} s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
