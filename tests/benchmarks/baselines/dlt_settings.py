"""Define how dlt is set up: with its defaults, and tuned for two cores.

dlt reads its settings on import, so they are passed in the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Setup:
    """The format of the files between dlt's steps (None for its default) and its settings."""

    file_format: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the variables of a pipeline that keeps its files in this directory.

        The directory is its home too: even without telemetry dlt stores a machine id there (root's is in /var/dlt).
        """
        places = dict.fromkeys(("DLT_DATA_DIR", "DLT_PROJECT_DIR", "HOME"), str(directory))
        return {**QUIET, **self.settings, **places}


AS_IT_COMES = Setup()
TUNED = Setup(
    # CSV is loaded by COPY and takes about three quarters of the time of dlt's default, insert_values.
    file_format="csv",
    settings={
        # Two processes normalize and two threads load; files of 10,000 records keep all of them busy.
        "NORMALIZE__WORKERS": "2",
        "LOAD__WORKERS": "2",
        "DATA_WRITER__FILE_MAX_ITEMS": "10000",
        # The files move from one step to the next on the same disk.
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
    },
)
