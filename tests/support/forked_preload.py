"""Import what a forked process needs in advance; see `forked_process.py`."""

# ruff: noqa: F401
import softpro.__main__
import softpro.sync.extract
import softpro.sync.load
import softpro.sync.transform
import softpro_sandbox.__main__
from softpro.quality.expectations import great_expectations

great_expectations()

import softpro.quality.validator  # noqa: E402 - only then
