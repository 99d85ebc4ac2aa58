"""Attack the product and count what gets through.

    make attack
    make attack ARGS='--only callers paths'
    make attack ARGS='--sample 100 --json attack.json'

It starts an embedded PostgreSQL, a sandbox and an API server with two connected organizations, and restores their
tables after each attempt. Attempts are the same in each run.

callers      every route and method, by every role, by confined users, and by strangers with forged tokens
paths        the paths of closed routes in other spellings, by callers without the right
injections   SQL, JSONata, templates, headers, numbers and odd texts in every parameter and field
cookies      changes with a browser's cookie alone, as pages of other sites send them
webhooks     forged, altered, old, misdirected and repeated deliveries
ciphertexts  changed, moved and replaced ciphertexts in every encrypted column
database     statements of a reader's and an editor's login

An attempt is through if it gets a response that its caller may not have, changes or shows what its caller may not, or
causes an error of the server. Controls are allowed requests of the same form, and have to succeed. The exit code is 1
if an attempt is through or a control fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..support.databases import Server, memory_directory
from ..support.sandbox import running_sandbox
from . import callers, ciphertexts, cookies, database, injections, paths, webhooks
from .attempts import Attempt, Tally, run, sample
from .target import Target, running_target

SUITES: dict[str, Callable[[Target], Iterable[Attempt]]] = {
    "callers": callers.attempts,
    "paths": paths.attempts,
    "injections": injections.attempts,
    "cookies": cookies.attempts,
    "webhooks": webhooks.attempts,
    "ciphertexts": ciphertexts.attempts,
    "database": database.attempts,
}
PROGRESS_SECONDS = 0.5
MAX_SHOWN = 20
COMMON_ANSWERS = 5


def main() -> int:
    options = _options()
    tallies = [_shown(tally) for tally in measure(options.only, options.sample)]
    print(*table(tallies), sep="\n")
    if options.json:
        options.json.write_text(json.dumps([tally.as_json() for tally in tallies], indent=2) + "\n")
    return 0 if all(tally.passed for tally in tallies) else 1


def measure(suites: Sequence[str], size: int | None) -> Iterator[Tally]:
    """Carry out the suites, and yield the counts of each. With `size`, carry out only so many attempts of each."""
    server = Server(memory_directory() / "data")
    with (
        running_sandbox(organizations=2, transactions=20, contacts=8) as sandbox,
        running_target(server, sandbox) as target,
    ):
        for name in suites:
            found = SUITES[name](target)
            yield run(name, sample(found, size) if size else found, Progress())


class Progress:
    """A line on a terminal that counts the attempts of the suite."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, tally: Tally) -> None:
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            print(f"\r{tally.suite}: {tally.attempts:,} attempts\033[K", end="\r", file=sys.stderr, flush=True)


def table(tallies: Sequence[Tally]) -> Iterator[str]:
    """Yield the lines of the table of counts."""
    yield f"{'attack':<12} {'attempts':>8} {'through':>8} {'controls':>8} {'failed':>7} {'seconds':>8}  responses"
    for tally in tallies:
        common = tally.answers.most_common(COMMON_ANSWERS)
        rest = tally.attempts - sum(count for _, count in common)
        answers = ", ".join(f"{answer} {count:,}" for answer, count in [*common, *([("others", rest)] if rest else [])])
        yield (
            f"{tally.suite:<12} {tally.attempts:>8,} {len(tally.through):>8,} {tally.controls:>8,} "
            f"{len(tally.failed_controls):>7,} {tally.seconds:>8.0f}  {answers}"
        )
    attempts, through = sum(tally.attempts for tally in tallies), sum(len(tally.through) for tally in tallies)
    yield f"{attempts:,} attempts, {through:,} through"


def _shown(tally: Tally) -> Tally:
    """Print the counts and the problems of a suite as soon as it ends."""
    counts = f"{tally.attempts:,} attempts, {len(tally.through):,} through, {tally.seconds:.0f} s"
    print(f"{tally.suite}: {counts}\033[K" if sys.stderr.isatty() else f"{tally.suite}: {counts}", file=sys.stderr)
    for title, problems in (("through", tally.through), ("failed control", tally.failed_controls)):
        for problem in problems[:MAX_SHOWN]:
            print(f"{title}: {tally.suite}: {problem}", file=sys.stderr)
        if len(problems) > MAX_SHOWN:
            print(f"{title}: {tally.suite}: {len(problems) - MAX_SHOWN:,} more", file=sys.stderr)
    return tally


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=SUITES, default=list(SUITES), metavar="SUITE", help=f"one of {', '.join(SUITES)}"
    )
    parser.add_argument(
        "--sample", type=int, help="carry out only so many attempts of each suite, and as many controls"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all counts and problems to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
