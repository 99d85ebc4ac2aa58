"""How dlt is set up: as it comes, and tuned for two cores.

It reads its settings while it is imported, so they come with the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Setup:
    """The format of the files between its steps, None for dlt's own choice, and its settings."""

    file_format: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, directory: Path) -> dict[str, str]:
        """The variables of a pipeline that keeps its files in this directory.

        That is its home as well: without telemetry, too, dlt makes up an id of the machine (root's is in /var/dlt).
        """
        places = dict.fromkeys(("DLT_DATA_DIR", "DLT_PROJECT_DIR", "HOME"), str(directory))
        return {**QUIET, **self.settings, **places}


AS_IT_COMES = Setup()
TUNED = Setup(
    # CSV goes in by COPY and takes about three quarters of the time that its own choice, insert_values, takes.
    file_format="csv",
    settings={
        # Two processes normalize, two threads load, and files of 10,000 records give all of them something to do.
        "NORMALIZE__WORKERS": "2",
        "LOAD__WORKERS": "2",
        "DATA_WRITER__FILE_MAX_ITEMS": "10000",
        # The files go from one step to the next on the same disk.
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
    },
)
