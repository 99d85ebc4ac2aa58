"""Define the envelopes and the conventions of all bodies: camelCase names, and no unknown fields."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

T = TypeVar("T")


class Model(BaseModel):
    """A JSON object with camelCase names that refuses unknown fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class DataResponse(BaseModel, Generic[T]):
    """A response with data: `{"success": true, "data": …}`."""

    success: Literal[True] = True
    data: T


class MessageResponse(BaseModel):
    """A response with a text: `{"success": true, "message": …}`."""

    success: Literal[True] = True
    message: str


class Meta(Model):
    """The position of a page in its list. `total` counts the entries of all pages."""

    total: int
    limit: int
    offset: int


class ListResponse(DataResponse[list[T]], Generic[T]):
    """A page of a list: `{"success": true, "data": […], "meta": {…}}`."""

    meta: Meta
