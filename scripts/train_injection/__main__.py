"""Trains, tells how good that is, and writes the weights."""

import argparse
import random
import sys
import warnings
from pathlib import Path
from typing import Final

import numpy as np

from services.shield.window.injection.weights import WEIGHTS

from .attacks import attacks
from .benign import benign
from .learning import learn
from .packages import fetch
from .report import held_out, split, table

SEED: Final = 20261124


def main() -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(prog="scripts.train_injection", description=sys.modules[__package__].__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".run/train_injection"), help="where the packages are kept")
    parser.add_argument(
        "--report", action="store_true", help="hold each family out once and tell how it does: takes long"
    )
    given = parser.parse_args()
    warnings.filterwarnings("ignore", "Maximum number of iteration")  # the average of the steps is what is used
    folder = fetch(given.folder)
    chance = random.Random(SEED)  # noqa: S311  # repeatable on purpose
    bad, good = attacks(folder, chance), benign(folder, chance)
    if given.report:
        for how, measure in (("a fifth held out", split), ("families held out", held_out)):
            found, false = measure(bad, good, seed=SEED)
            sys.stdout.write(table(f"attacks, {how}", found) + "\n\n" + table(f"harmless texts, {how}", false) + "\n\n")
    learned = learn(bad, good, seed=SEED)
    np.savez_compressed(WEIGHTS, weights=learned.weights, scale=learned.scale, bias=learned.bias)
    sys.stdout.write(f"wrote {WEIGHTS.name}: {WEIGHTS.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
