"""Records of any shape, put in as they are: what a reader must survive."""

from itertools import count

from softpro_sandbox.clock import parse_ms
from softpro_sandbox.record_store import Catalogue
from softpro_sandbox.records.codec import decode
from softpro_sandbox.state import ID_FIELDS, EntityType, World
from softpro_sandbox.webhooks.events import created, updated
from softpro_sandbox.webhooks.notify import tell


def add_raw(world: World, organization_id: str, entity: EntityType, body: bytes) -> str:
    """Put a JSON object into a list byte for byte; answers the id it is kept under.

    Raises ValueError when the body is no JSON object. One with the id of a record replaces it.
    """
    record = decode(body)
    sent = record.get(ID_FIELDS[entity])
    catalogue = world.catalogue(organization_id, entity)
    record_id = sent if isinstance(sent, str) and sent else _free_id(catalogue)
    now = world.stamp()
    try:
        moment = parse_ms(str(record.get("updatedAt")))
    except ValueError:
        moment = now
    happened = updated if record_id in catalogue.true else created
    catalogue.put_raw(record_id, moment, body, world.surface_at(now))
    tell(world, organization_id, happened(entity, record_id, body))
    return record_id


def _free_id(catalogue: Catalogue) -> str:
    """An id that no record has, for one that brings none."""
    return next(made for number in count(1) if (made := f"raw-{number:06d}") not in catalogue.true)
