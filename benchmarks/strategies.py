"""Single modalities against fusions on the demo's data: the table in the README.

Run: python benchmarks/strategies.py [tux-paint|digits]
"""

import sys

from ensemblefuse import AudioEncoder, ImageEncoder, TextEncoder, compare_models, format_comparison, standard_strategies
from ensemblefuse.datasets import fetch_tux_paint, load_av_digits


def main() -> None:
    load = {"tux-paint": fetch_tux_paint, "digits": load_av_digits}[(sys.argv[1:] or ["tux-paint"])[0]]
    data = load()
    encoders = {"image": ImageEncoder(), "text": TextEncoder(), "audio": AudioEncoder()}
    modalities = [(name, encoders[name], columns) for name, columns in data.modalities.items()]
    table = compare_models(standard_strategies(modalities), data.frame, data.target, cv=5, groups=data.groups)
    print(f"{data.name}: {len(data.frame)} rows, {data.target.nunique()} classes, 5 folds")
    print(format_comparison(table))


if __name__ == "__main__":
    main()
