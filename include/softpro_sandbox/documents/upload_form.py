"""Parse the multipart form of an upload: `file`, and `metadata` as JSON text (contract, Endpoints)."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from softpro_sandbox.documents.content import UploadedFile
from softpro_sandbox.errors import bad_field
from softpro_sandbox.models import DocumentMetadata

DEFAULT_FILE_NAME = "document"
_BINARY = "application/octet-stream"

UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "metadata"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "metadata": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": DocumentMetadata.model_json_schema(by_alias=True),
                        },
                    },
                }
            }
        },
    }
}
"""The form's OpenAPI description. The form is parsed here, because the framework would close the file."""


@dataclass(frozen=True)
class Upload:
    """A valid upload."""

    content: UploadedFile
    file_name: str
    mime_type: str
    metadata: DocumentMetadata


async def read_upload(request: Request) -> Upload:
    """Parse the form of a request. A file above one megabyte is streamed to a temporary file and stays there.

    Raises:
        ApiError: the form is malformed, or a part is missing (400).
        RequestValidationError: the metadata is invalid (400).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise bad_field("body", "must be multipart/form-data")
    try:
        form = await MultiPartParser(request.headers, request.stream()).parse()
    except (MultiPartException, KeyError) as error:
        raise bad_field("body", str(getattr(error, "message", "the form has no boundary"))) from None
    file = form.get("file")
    others = [part for _, part in form.multi_items() if isinstance(part, UploadFile) and part is not file]
    try:
        if not isinstance(file, UploadFile):
            raise bad_field("file", "is missing")
        metadata = _metadata(form.get("metadata"))
    except Exception:
        await form.close()
        raise
    for other in others:
        await other.close()
    size = file.size or 0
    return Upload(
        UploadedFile(file.file, size), file.filename or DEFAULT_FILE_NAME, file.content_type or _BINARY, metadata
    )


def _metadata(sent: object) -> DocumentMetadata:
    if not isinstance(sent, str):
        raise bad_field("metadata", "is missing" if sent is None else "must be text, not a file")
    try:
        return DocumentMetadata.model_validate_json(sent)
    except ValidationError as error:
        found = [{**item, "loc": ("body", "metadata", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(found) from None
