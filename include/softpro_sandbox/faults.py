"""Draw faults for requests from a seeded generator."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from softpro_sandbox.switches import Switches

Fault = Literal[
    "error500",
    "error503",
    "error429",
    "proxyHtml",
    "emptyBody",
    "truncatedBody",
    "resetConnection",
    "lostWrite",
    "wrongJson",
    "dripBody",
]

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class FaultPlan:
    """The faults of one request: seconds to wait first, and a fault or None."""

    delay: float
    fault: Fault | None


def fault_shares(switches: Switches) -> dict[Fault, float]:
    """Return the share of each fault, in the order in which they are drawn."""
    return {
        "error500": switches.error500,
        "error503": switches.error503,
        "error429": switches.error429,
        "proxyHtml": switches.proxy_html,
        "emptyBody": switches.empty_body,
        "truncatedBody": switches.truncated_body,
        "resetConnection": switches.reset_connection,
        "lostWrite": switches.lost_write,
        "wrongJson": switches.wrong_json,
        "dripBody": switches.drip_body,
    }


def pick_fault(point: float, weights: Mapping[Fault, float]) -> Fault | None:
    """Return the fault whose part of [0, 1) contains `point`, or None.

    Shares that add up to more than 1 leave nothing for the last faults.
    """
    edge = 0.0
    for fault, share in weights.items():
        edge += share
        if point < edge:
            return fault
    return None


def draw_fault(draws: random.Random, switches: Switches, method: str) -> FaultPlan:
    """Draw the faults of a request. Always draw twice, so that a switch does not shift the draws of later requests."""
    slow, point = draws.random(), draws.random()
    fault = pick_fault(point, fault_shares(switches))
    if fault == "lostWrite" and method not in WRITES:
        fault = None
    return FaultPlan(switches.slow_seconds if slow < switches.slow else 0.0, fault)
