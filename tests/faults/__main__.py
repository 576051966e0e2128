"""Run a campaign: `python -m faults --seed 1 --count 1000 [--write docs/reliability.md]`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from faults import campaign, zygote

TABLE = re.compile(r"(<!-- campaign -->\n).*?(<!-- end -->)", re.DOTALL)


def say(line: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run it; 1 where there was a failure."""
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--only", type=int, nargs="+", default=[], help="numbers of the injections to make again")
    parser.add_argument("--record", type=Path, help="a file of outcomes, with which a campaign that was cut goes on")
    parser.add_argument("--write", type=Path, help="a page whose table to replace")
    chosen = parser.parse_args()
    zygote.warm_up()
    started = time.monotonic()
    found = campaign.run(chosen.seed, chosen.count, say, chosen.seconds, chosen.only, chosen.record)
    if chosen.write:
        text = f"Seed {chosen.seed}, {len(found.outcomes)} injections.\n\n{found.table()}\n"
        page = chosen.write.read_text(encoding="utf-8")
        chosen.write.write_text(TABLE.sub(lambda match: f"{match[1]}{text}{match[2]}", page), encoding="utf-8")
    say(found.table())
    say(f"{len(found.outcomes)} injections, seed {chosen.seed}, {time.monotonic() - started:.0f} s")
    for kind, number in found.skipped.items():
        say(f"{number} of {kind} changed nothing, or cannot be made on this machine")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
