"""Refresh grants, purge old rows and profile fields: the tasks of the DAG `softpro_maintenance`."""

from __future__ import annotations

import logging

import psycopg
from airflow.sdk.exceptions import AirflowFailException

from softpro.analysis.field_profile import refresh
from softpro.db import audit_log, integrations, locks, outbox, refusals
from softpro.db.encryption import Vault
from softpro.entities import EntityType
from softpro.orchestration.hook import database
from softpro.quality import results
from softpro.settings import (
    AuditSettings,
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
    """Refresh the grants that no sync has refreshed for 7 days, and return their number.

    Raises:
        AirflowFailException: A grant could not be refreshed. All others are processed first. The task is not retried,
            because the vendor may have accepted the failed refresh.
    """
    encryption, oauth = load(EncryptionSettings, OAuthSettings)
    kept = keepalive.keep_alive(database(), Vault(encryption.keys), oauth)
    log.info("%d refreshed, %d ended, %d failed", kept.refreshed, len(kept.expired), len(kept.failed))
    if kept.expired or kept.failed:
        problems = {**kept.expired, **kept.failed}
        raise AirflowFailException("; ".join(f"{organization}: {reason}" for organization, reason in problems.items()))
    return kept.refreshed


def purge_expired() -> int:
    """Delete expired rows, and return their number.

    These are states of authorizations that can no longer finish, old check results, old settled webhook events and
    edits, old entries of the audit log, old counts of refused requests, and unused locks.
    """
    quality, webhooks, edits, audit = load(QualitySettings, WebhookSettings, OutboxSettings, AuditSettings)
    with database().connect() as connection:
        return (
            consent.purge_states(connection)
            + results.purge(connection, quality.check_results_days)
            + events.purge(connection, webhooks.event_days)
            + outbox.purge(connection, edits.days)
            + audit_log.purge(connection, audit.days)
            + refusals.purge(connection)
            + locks.purge(connection)
        )


def refresh_field_profiles() -> int:
    """Record the fields and codes of the records that landed since the last run, and return the number of streams.

    Raises:
        AirflowFailException: A stream could not be profiled. All others are processed first.
    """
    problems = []
    with database().connect() as connection:
        streams = [(each, entity_type) for each in integrations.list_all(connection) for entity_type in EntityType]
        for integration, entity_type in streams:
            try:
                refresh(connection, integration, entity_type, only_if_old=True)
            except psycopg.Error as failed:
                log.exception("Cannot profile the %s of %s", entity_type.table, integration.organization_id)
                problems.append(f"{integration.organization_id} {entity_type.table}: {type(failed).__name__}")
    if problems:
        raise AirflowFailException("; ".join(problems))
    return len(streams)
