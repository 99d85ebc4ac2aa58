"""Stop rules that never end or exhaust the memory; their callers continue."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pytest

from softpro.errors import RulesUnavailable
from softpro.mapping.rules.account import RUN_SECONDS, STOP_SECONDS
from softpro.mapping.rules.evaluator import evaluating, problems
from softpro.mapping.rules.messages import NOT_TRIED, Evaluation, Rule
from softpro.mapping.rules.supervisor import MAX_CPU_SECONDS as LONGEST_CPU_SECONDS
from softpro.mapping.rules.supervisor import MAX_WALL_SECONDS

from ..support.hostile_rules import DEEP, HOSTILE

RULES = HOSTILE[:: int(os.environ.get("SOFTPRO_TEST_HOSTILE_STEP", "4"))]
"""Some rules of each kind, or all. Most of them use up their time limit."""
# The product promises one second on an idle machine. On a busy one the test allows the longest wait.
LONGEST_SECONDS = float(os.environ.get("SOFTPRO_TEST_HOSTILE_SECONDS", MAX_WALL_SECONDS + 5))
STOPS = int(RUN_SECONDS / STOP_SECONDS)
MOST_BYTES = 200 * 1024**2
# A separate process whose only children are those that evaluate rules.
WORKER = """
import json, resource, sys, time
from softpro.mapping.rules.messages import Evaluation, Rule
from softpro.mapping.rules.evaluator import evaluating

def peak(whose):
    return resource.getrusage(whose).ru_maxrss * 1024

for line in sys.stdin:
    before, began = peak(resource.RUSAGE_SELF), time.perf_counter()
    with evaluating([Rule(json.loads(line), 0, 1, {}), Rule("$uppercase($)", 0, None, {})]) as rules:
        [evaluated] = rules.evaluate([Evaluation(['"value"', '{"field": "value"}'])])
    print(json.dumps({
        "seconds": time.perf_counter() - began,
        "grown": peak(resource.RUSAGE_SELF) - before,
        "children": peak(resource.RUSAGE_CHILDREN),
        "result": evaluated.results[0] and evaluated.results[0][:60],
        "failure": evaluated.failures.get(0),
        "good": evaluated.results[1],
    }), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> list[dict[str, Any]]:
    """Return the outcome of each rule; one worker evaluates all of them in turn."""
    rules = "".join(json.dumps(rule) + "\n" for rule in RULES)
    ended = subprocess.run(
        [sys.executable, "-c", WORKER], input=rules, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_there_are_a_hundred_of_them_and_all_are_different(outcomes: list[dict[str, Any]]) -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) == 100
    assert len(outcomes) == len(RULES)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_a_hostile_rule_ends_soon_and_small_and_the_others_are_evaluated(
    outcomes: list[dict[str, Any]], number: int
) -> None:
    outcome = outcomes[number]
    assert outcome["good"] == '"VALUE"'
    assert outcome["seconds"] < LONGEST_SECONDS
    assert outcome["children"] + outcome["grown"] < MOST_BYTES


def test_all_of_them_are_saved_or_refused_without_harm() -> None:
    """A rule that does not compile is reported when its set is saved; here one set holds all of them."""
    found = problems(HOSTILE)
    refused = [rule for rule, problem in zip(HOSTILE, found, strict=True) if problem]
    assert set(DEEP[1:14]) - set(refused) == {DEEP[13]}  # a pattern is not checked before its first use


def test_a_rule_that_is_stopped_repeatedly_is_not_tried_again() -> None:
    with evaluating([Rule("$pad('x', 1e9)", 0, None, {}), Rule("$", 0, None, {})]) as rules:
        evaluated = list(rules.evaluate(Evaluation([str(number)]) for number in range(1000)))
    messages = [each.failures[0] for each in evaluated]
    assert [message == NOT_TRIED for message in messages] == [False] * STOPS + [True] * (1000 - STOPS)
    assert [each.results for each in evaluated] == [[None, str(number)] for number in range(1000)]


def test_a_rule_that_is_slow_on_every_record_is_given_up() -> None:
    slow = "$count($filter([1..50000], function($v) { $v % 3 = 0 }))"
    with evaluating([Rule(slow, 0, None, {}), Rule("$", 0, None, {})]) as rules:
        evaluated = list(rules.evaluate(Evaluation([str(number)]) for number in range(1000)))
    tried = [number for number, each in enumerate(evaluated) if not each.failures]
    assert STOPS < len(tried) < 500  # each takes some hundredths of a second, or more on a busy machine
    assert {each.failures[0] for each in evaluated[tried[-1] + 1 :]} == {NOT_TRIED}
    assert [each.results[1] for each in evaluated] == [str(number) for number in range(1000)]


def test_results_that_are_too_much_together_or_too_deep_are_failures_of_their_rules() -> None:
    large = [Rule("$pad($, 900000)", 0, None, {}) for _ in range(30)]
    deep = Rule("$reduce([1..5000], function($a, $b) { {'a': $a} }, $)", 0, None, {})
    flat = Rule("[1..150].($string($) & '[[[[')", 0, None, {})
    with evaluating([*large, deep, flat]) as rules:
        evaluated = list(rules.evaluate(Evaluation([f'"{number}"']) for number in range(3)))
    for each in evaluated:
        assert set(each.failures) == set(range(4, 31))
        assert "more than 4,000,000 characters" in each.failures[4]
        assert each.results[31] is not None
    with evaluating([deep, flat]) as rules:
        [each] = rules.evaluate([Evaluation(['"x"'])])
    assert each.failures == {0: "its result nests more than 100 levels"}
    assert each.results[1] is not None


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_rule_process_loses_no_record(seed: int) -> None:
    """The rule is not at fault, so the process restarts and evaluates again."""
    rng, killed = random.Random(seed), 0
    with evaluating([Rule("$ & '!'", 0, None, {})]) as rules:
        found = []
        for evaluated in rules.evaluate(Evaluation([json.dumps(f"value {number}")]) for number in range(20_000)):
            found.append(evaluated)
            if killed < 3 and rng.random() < 0.001:
                killed += kill(psutil.Process())
    assert killed == 3
    assert [each.results for each in found] == [[f'"value {number}!"'] for number in range(20_000)]
    assert not any(each.failures for each in found)


def test_a_paused_machine_is_not_blamed_on_a_rule() -> None:
    """The wall clock advances while the process is stopped."""
    busy = "$count($filter([1..50000], function($v) { $v % 3 = 0 }))"
    with evaluating([Rule(busy, 0, None, {})]) as rules, ThreadPoolExecutor(1) as other:
        evaluated = other.submit(lambda: list(rules.evaluate(Evaluation([str(number)]) for number in range(40))))
        for _ in range(2):
            time.sleep(0.4)
            for child in evaluators(psutil.Process()):
                child.suspend()
                time.sleep(LONGEST_CPU_SECONDS + 0.4)
                child.resume()
        assert [(each.results, each.failures) for each in evaluated.result()] == [(["16666"], {})] * 40


def test_a_process_that_does_not_stay_alive_ends_the_run() -> None:
    def killing(records: int) -> Iterator[Evaluation]:
        for number in range(records):
            kill(psutil.Process())
            yield Evaluation([str(number)])

    with evaluating([Rule("$", 0, None, {})]) as rules, pytest.raises(RulesUnavailable):
        list(rules.evaluate(killing(10_000)))


def test_a_process_does_not_outlive_the_one_that_uses_it() -> None:
    code = """
import sys
from softpro.mapping.rules.messages import Evaluation, Rule
from softpro.mapping.rules.evaluator import evaluating
with evaluating([Rule("$", 0, None, {})]) as rules:
    next(rules.evaluate(Evaluation([str(n)]) for n in range(100_000)))
    print("ready", flush=True)
    sys.stdin.read()
"""
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.readline()
    [child] = evaluators(psutil.Process(worker.pid))
    worker.kill()
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def kill(process: psutil.Process) -> bool:
    """Kill the process that evaluates rules for this one. Return whether one existed."""
    for child in evaluators(process):
        child.kill()
        return True
    return False


def evaluators(process: psutil.Process) -> list[psutil.Process]:
    """Return the living processes that evaluate rules for this one."""
    found = []
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and "softpro.mapping.rules.process" in child.cmdline():
                found.append(child)
    return found


def test_the_process_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", "a secret that must never be seen")
    with evaluating([Rule("$", 0, None, {})]) as rules:
        asked = rules.evaluate(iter([Evaluation(["1"]), Evaluation(["2"])]))
        next(asked)
        [child] = evaluators(psutil.Process())
        assert "INTEGRATION_ENCRYPTION_KEY" not in child.environ()
