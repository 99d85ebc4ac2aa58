"""The envelope and the conventions of every request and response body: the specification's names, in camelCase."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

T = TypeVar("T")


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class DataResponse(BaseModel, Generic[T]):
    """`{"success": true, "data": …}`"""

    success: Literal[True] = True
    data: T


class MessageResponse(BaseModel):
    """`{"success": true, "message": …}`"""

    success: Literal[True] = True
    message: str


class Meta(Model):
    total: int
    limit: int
    offset: int


class ListResponse(DataResponse[list[T]], Generic[T]):
    """`{"success": true, "data": […], "meta": {…}}`"""

    meta: Meta
