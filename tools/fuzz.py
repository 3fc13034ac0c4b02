"""Hands damaged inputs to the readers of files and lists what comes out beside what is documented.

    python tools/fuzz.py
    python tools/fuzz.py --target results --inputs 20000 --seed 1
    python tools/fuzz.py --target results/csv --number 4711 > damaged.json

A reader may take an input or refuse it by a `UserError`, within 20 s; anything else is listed with its smallest
example, and the exit code is 1. Inputs follow from seed and number alone. Readers stand in tools/fuzz_targets/.
"""

from __future__ import annotations

import argparse
import sys

from fuzzing import Found, Target, made_input, table, targets, tried


def main() -> int:
    """Fuzzes what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="", help="only targets whose names begin so")
    parser.add_argument("--inputs", type=int, default=500, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--number", type=int, help="writes this input of the first target instead of trying it")
    asked = parser.parse_args()
    chosen = [one for one in targets() if one.name.startswith(asked.target)]
    if not chosen:
        print(f"no such target; known: {', '.join(one.name for one in targets())}", file=sys.stderr)
        return 2
    if asked.number is not None:
        one = made_input(chosen[0], asked.number, asked.seed)
        print(one.said, file=sys.stderr)
        sys.stdout.buffer.write(one.content)
        return 0
    found = [_tried(one, asked) for one in chosen]
    print("\n".join(table(found)))
    return 1 if any(one.faults for one in found) else 0


def _tried(target: Target, asked: argparse.Namespace) -> Found:
    print(f"{target.name} ...", file=sys.stderr)
    return tried(target, asked.inputs, asked.seed, asked.first)


if __name__ == "__main__":
    sys.exit(main())
