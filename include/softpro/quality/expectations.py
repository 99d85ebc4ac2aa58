"""Great Expectations, imported without what only charts and tests of distributions use: a third of the time and memory.

Those come once they are used, so that a suite may ask for any expectation.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import ModuleType
from typing import Any

SELDOM_USED = ("altair", "scipy.stats")


class _Later(ModuleType):
    """Stands in for a module until something of it is wanted."""

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module(self.__name__)
        self.__dict__.update(module.__dict__)
        return getattr(module, name)


def great_expectations() -> ModuleType:
    """The package, its reports of usage to its makers switched off."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    # It logs stack traces of what it answers as well, and `check` raises.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    later = {name: _Later(name) for name in SELDOM_USED if name not in sys.modules}
    sys.modules.update(later)
    try:
        return importlib.import_module("great_expectations")
    finally:
        for name in later:
            del sys.modules[name]  # whoever imports it from now on gets it
