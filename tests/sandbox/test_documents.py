"""Test documents: generated on first use, uploaded as multipart, downloaded byte for byte."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from softpro_sandbox.documents.content import BLOCK, GeneratedPdf

from .conftest import Sandbox

DOCUMENTS = "/api/v1/transactions/ord-000001/documents"


def upload(sandbox: Sandbox, content: bytes = b"deed", url: str = DOCUMENTS, **metadata: Any) -> Any:
    """Upload a document and return the response."""
    files = {"file": ("Deed ü.txt", content, "text/plain")}
    return sandbox.http.post(url, files=files, data={"metadata": json.dumps(metadata)})


def listed(sandbox: Sandbox, **params: Any) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = sandbox.get("/transactions/ord-000001/documents", **params).json()
    return documents


def test_a_seeded_order_has_small_documents_that_are_always_the_same(start: Callable[..., Sandbox]) -> None:
    def taken() -> list[tuple[Any, bytes]]:
        sandbox = start().connect()
        return [
            (each, sandbox.http.get(f"{DOCUMENTS}/{each['documentId']}/download").content) for each in listed(sandbox)
        ]

    first = taken()
    assert first == taken()
    assert 1 <= len(first) <= 4
    for record, content in first:
        assert content.startswith(b"%PDF-1.4\n")
        assert content.endswith(b"%%EOF\n")
        assert record.get("fileSize") in (len(content), None)
        assert record["orderId"] == "ord-000001"


def test_nothing_is_made_before_it_is_asked_for(start: Callable[..., Sandbox], built: Any) -> None:
    sandbox = start().connect()
    [organization] = built[0].organizations.values()
    assert organization.documents.by_order == {}
    listed(sandbox)
    assert list(organization.documents.by_order) == ["ord-000001"]


@pytest.mark.parametrize("size", [600, 5_000, BLOCK, BLOCK + 700, 3 * BLOCK + 701])
def test_a_made_document_is_a_pdf_of_exactly_its_size(size: int) -> None:
    pdf = GeneratedPdf("Deed (1)", size)
    content = b"".join(pdf.blocks())
    assert len(content) == pdf.size == max(size, GeneratedPdf.smallest("Deed (1)"))
    assert content == b"".join(pdf.blocks())
    assert all(content[at:].startswith(f"{n} 0 obj\n".encode()) for n, at in enumerate(offsets(content), 1))
    filler = [line for line in content.split(b"\n") if line.startswith(b"%0")]
    assert len(set(filler)) == len(filler)


def offsets(pdf: bytes) -> list[int]:
    """Read the offsets of a PDF's objects from its cross-reference table."""
    table = pdf[int(pdf.rsplit(b"startxref\n", 1)[1].split()[0]) :]
    assert table.startswith(b"xref\n")
    return [int(line.split()[0]) for line in table.split(b"\n")[3:8]]


def test_an_upload_comes_back_byte_for_byte(sandbox: Sandbox) -> None:
    content = bytes(range(256)) * 10_000
    response = upload(
        sandbox, content, documentType="DEED", description="d", tags=["a"], customFields={"roiSystemsId": "roi-3"}
    )
    assert response.status_code == 201
    record = response.json()
    assert record == {
        "documentId": record["documentId"],
        "orderId": "ord-000001",
        "documentName": "Deed ü.txt",
        "documentType": "DEED",
        "fileName": "Deed ü.txt",
        "fileSize": 2_560_000,
        "mimeType": "text/plain",
        "status": "DRAFT",
        "version": 1,
        "description": "d",
        "tags": ["a"],
        "customFields": {"roiSystemsId": "roi-3"},
        "uploadedAt": "2025-11-03T12:00:00.000Z",
        "lastModifiedAt": "2025-11-03T12:00:00.000Z",
    }
    assert listed(sandbox)[-1] == record
    assert sandbox.http.get(f"{DOCUMENTS}/{record['documentId']}").json() == record
    for _ in range(2):
        download = sandbox.http.get(f"{DOCUMENTS}/{record['documentId']}/download")
        assert download.content == content
        assert download.headers["content-type"] == "text/plain"
        assert download.headers["content-length"] == "2560000"


def test_documents_do_not_move_their_order(sandbox: Sandbox) -> None:
    before = sandbox.order()
    sandbox.clock.advance(9)
    record = upload(sandbox).json()
    sandbox.http.delete(f"{DOCUMENTS}/{record['documentId']}")
    assert sandbox.order() == before


def test_an_upload_whose_answer_was_lost_is_found_by_its_roi_id(sandbox: Sandbox) -> None:
    sandbox.switch(lostWrite=1)
    with pytest.raises(ConnectionResetError):
        upload(sandbox, customFields={"roiSystemsId": "roi-4"})
    sandbox.switch(lostWrite=0)
    assert [(d.get("customFields") or {}).get("roiSystemsId") for d in listed(sandbox)].count("roi-4") == 1


def test_documents_are_filtered(sandbox: Sandbox) -> None:
    upload(sandbox, documentType="SURVEY", status="SIGNED", documentName="one")
    sandbox.clock.advance(86_400)
    sandbox.connect()
    upload(sandbox, documentType="NOTE", status="SIGNED", documentName="two")

    def names(**params: Any) -> list[str]:
        return [
            each["documentName"] for each in listed(sandbox, **params) if each.get("documentName") in ("one", "two")
        ]

    assert names(documentType="SURVEY") == ["one"]
    assert names(documentType="SURVEY,NOTE", status="SIGNED") == ["one", "two"]
    assert listed(sandbox, status="ARCHIVED", documentType="NOTE") == []
    assert [each["documentName"] for each in listed(sandbox, uploadedDateFrom="2025-11-04")] == ["two"]
    assert names(uploadedDateTo="2025-11-03") == ["one"]
    assert sandbox.get("/transactions/ord-000001/documents", uploadedDateFrom="soon").status_code == 400


def test_a_deleted_document_is_gone_at_once_and_its_id_is_not_used_again(sandbox: Sandbox) -> None:
    record = upload(sandbox).json()
    url = f"{DOCUMENTS}/{record['documentId']}"
    assert sandbox.http.delete(url).status_code == 204
    assert [sandbox.http.get(url + end).status_code for end in ("", "/download")] == [404, 404]
    assert sandbox.http.delete(url).status_code == 404
    assert record not in listed(sandbox)
    assert upload(sandbox).json()["documentId"] != record["documentId"]


def test_a_document_is_nowhere_until_it_surfaces(sandbox: Sandbox) -> None:
    sandbox.switch(lag=5)
    record = upload(sandbox).json()
    assert record not in listed(sandbox)
    assert sandbox.http.get(f"{DOCUMENTS}/{record['documentId']}/download").status_code == 404
    sandbox.clock.advance(5)
    assert record in listed(sandbox)


def test_a_bad_upload_is_refused_with_the_field_named(sandbox: Sandbox) -> None:
    before = listed(sandbox)
    file = {"file": ("a.txt", b"a", "text/plain")}
    for how, field in (
        ({"files": file}, "metadata"),
        ({"files": {"other": file["file"]}, "data": {"metadata": "{}"}}, "file"),
        ({"files": file, "data": {"metadata": "{"}}, "metadata"),
        ({"files": file, "data": {"metadata": "[]"}}, "metadata"),
        ({"files": file, "data": {"metadata": '{"documentType": "POEM"}'}}, "metadata.documentType"),
        ({"json": {}}, "body"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "body"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "body"),
    ):
        response = sandbox.http.post(DOCUMENTS, **how)
        assert response.status_code == 400, how
        assert [item["field"] for item in response.json()["error"]["details"]["fields"]] == [field]
    assert listed(sandbox) == before


def test_documents_of_an_unknown_or_deleted_order_are_not_found(sandbox: Sandbox) -> None:
    [first, *_] = listed(sandbox)
    sandbox.http.delete("/api/v1/transactions/ord-000001")
    assert sandbox.http.get(DOCUMENTS).status_code == 404
    assert sandbox.http.get(f"{DOCUMENTS}/{first['documentId']}/download").status_code == 404
    assert upload(sandbox).status_code == 404
    assert sandbox.http.delete(f"{DOCUMENTS}/{first['documentId']}").status_code == 404


def test_a_document_of_another_order_is_not_found(sandbox: Sandbox) -> None:
    record = upload(sandbox).json()
    assert sandbox.get(f"/transactions/ord-000002/documents/{record['documentId']}").status_code == 404


def test_documents_have_their_own_scopes(sandbox: Sandbox) -> None:
    sandbox.connect(scope="read:transactions write:transactions")
    assert sandbox.http.get(DOCUMENTS).status_code == 403
    sandbox.connect(scope="read:documents")
    assert sandbox.http.get(DOCUMENTS).status_code == 200
    assert upload(sandbox).status_code == 403


def test_the_control_call_makes_a_document_of_any_size(sandbox: Sandbox) -> None:
    order = {"orderId": "ord-000001", "fileSize": 3_000_000, "documentType": "SURVEY"}
    record = sandbox.http.post("/sandbox/documents", json=order).json()
    download = sandbox.http.get(f"{DOCUMENTS}/{record['documentId']}/download")
    assert (len(download.content), download.headers["content-length"]) == (3_000_000, "3000000")
    assert download.headers["content-type"] == "application/pdf"
    assert listed(sandbox)[-1] == record
    assert sandbox.http.post("/sandbox/documents", json=order | {"orderId": "none"}).status_code == 404
