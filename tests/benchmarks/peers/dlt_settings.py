"""How dlt is set up for two cores. It reads its settings while it is imported, so they come with the environment."""

from __future__ import annotations

from pathlib import Path

SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    # Two processes normalize, two threads load, and files of 10,000 records give all of them something to do.
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "2",
    "DATA_WRITER__FILE_MAX_ITEMS": "10000",
    # The files go from one step to the next on the same disk.
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
}


def environment(directory: Path) -> dict[str, str]:
    """The variables of a pipeline that keeps its files in this directory.

    That is its home as well: without telemetry, too, dlt makes up an id of the machine (root's is in /var/dlt).
    """
    return {**SETTINGS, **dict.fromkeys(("DLT_DATA_DIR", "DLT_PROJECT_DIR", "HOME"), str(directory))}
