"""What the tasks of the maintenance DAG do."""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowFailException

from softpro.orchestration.hook import database
from softpro.quality import results
from softpro.settings import EncryptionSettings, OAuthSettings, QualitySettings, load
from softpro.store.encryption import Vault
from softpro.vendor import consent, keepalive

log = logging.getLogger(__name__)


def keep_alive() -> int:
    """Refreshes the grants that no sync has refreshed for 7 days. Returns how many.

    Raises AirflowFailException, so that the run shows red, where a tenant's could not be: after all others, and without
    another try today, as the vendor may have taken the first one.
    """
    encryption, oauth = load(EncryptionSettings, OAuthSettings)
    kept = keepalive.keep_alive(database(), Vault(encryption.keys), oauth)
    log.info("%d refreshed, %d ended, %d failed", kept.refreshed, len(kept.expired), len(kept.failed))
    if kept.expired or kept.failed:
        problems = {**kept.expired, **kept.failed}
        raise AirflowFailException("; ".join(f"{organization}: {why}" for organization, why in problems.items()))
    return kept.refreshed


def tidy() -> int:
    """Deletes the states of authorizations that can't be finished any more, and results of checks that are too old.
    Returns how many."""
    (quality,) = load(QualitySettings)
    with database().connect() as connection:
        return consent.forget_states(connection) + results.forget(connection, quality.check_results_days)
