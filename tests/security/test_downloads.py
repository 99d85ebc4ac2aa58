"""End a download that is longer than its document, or than any document may be."""

from __future__ import annotations

import io

import msgspec
import pytest

from softpro.db.integrations import Integration
from softpro.errors import ServerError
from softpro.services import Services
from softpro.softpro360 import client as client_module
from softpro.softpro360.models import Document

from ..support.sandbox import Sandbox


class Limited(io.BytesIO):
    """A file that records the most bytes that it ever held."""

    most = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        written = super().write(data)
        self.most = max(self.most, self.tell())
        return written


@pytest.mark.parametrize("announced", [1_000, None])
def test_a_download_ends_at_its_limit(
    services: Services,
    acme: Integration,
    sandbox: Sandbox,
    vendor_organization: str,
    monkeypatch: pytest.MonkeyPatch,
    announced: int | None,
) -> None:
    order = next(iter(sandbox.records(vendor_organization)))
    monkeypatch.setattr(client_module, "MAX_DOCUMENT_BYTES", 2_000)
    copy = Limited()
    with services.client(acme) as client:
        made = client.upload(order, io.BytesIO(b"x" * 10_000_000), "a.bin", "application/octet-stream", {}).fields
        with pytest.raises(ServerError, match="longer than"):
            client.download(msgspec.structs.replace(made, file_size=announced), copy)
    assert copy.most <= 2_000


def test_a_document_above_the_limit_is_not_requested(services: Services, acme: Integration) -> None:
    document = Document(document_id="d", order_id="o", file_size=10**15)
    with services.client(acme) as client:
        before = client.requests_made
        with pytest.raises(ServerError, match="more than the limit"):
            client.download(document, io.BytesIO())
        assert client.requests_made == before
