"""What the tasks of the maintenance DAG do."""

from __future__ import annotations

import logging

import psycopg
from airflow.sdk.exceptions import AirflowFailException

from softpro.analysis.field_profile import refresh
from softpro.db import integrations, outbox
from softpro.db.encryption import Vault
from softpro.entities import EntityType
from softpro.orchestration.hook import database
from softpro.quality import results
from softpro.settings import (
    EncryptionSettings,
    OAuthSettings,
    OutboxSettings,
    QualitySettings,
    WebhookSettings,
    load,
)
from softpro.softpro360 import consent, keepalive
from softpro.webhooks import events

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


def purge_expired() -> int:
    """Deletes the states of authorizations that can't be finished any more, and results of checks, settled webhook
    events and settled edits that are too old. Returns how many."""
    quality, webhooks, edits = load(QualitySettings, WebhookSettings, OutboxSettings)
    with database().connect() as connection:
        return (
            consent.purge_states(connection)
            + results.purge(connection, quality.check_results_days)
            + events.purge(connection, webhooks.event_days)
            + outbox.purge(connection, edits.days)
        )


def refresh_field_profiles() -> int:
    """Notes the fields and codes of the records that landed since the last time. Returns how many streams there are.

    Raises AirflowFailException, after all others, where a stream's records could not be looked at.
    """
    problems = []
    with database().connect() as connection:
        streams = [(each, entity_type) for each in integrations.list_all(connection) for entity_type in EntityType]
        for integration, entity_type in streams:
            try:
                refresh(connection, integration, entity_type, only_if_old=True)
            except psycopg.Error as failed:
                log.exception("The %s of %s could not be looked at", entity_type.table, integration.organization_id)
                problems.append(f"{integration.organization_id} {entity_type.table}: {type(failed).__name__}")
    if problems:
        raise AirflowFailException("; ".join(problems))
    return len(streams)
