"""Read and write mapping sets as JSON, for `PUT /mappings`, the previews and the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping.mapping import Mapping

MAX_MAPPINGS = 1_000

RuleText = Annotated[str, Field(max_length=10_000)]


class RuleBothWays(BaseModel):
    """JSONata for each direction; see docs/mappings.md."""

    model_config = ConfigDict(extra="forbid")

    from_softpro: RuleText | None = Field(None, alias="fromSoftPro")
    to_softpro: RuleText | None = Field(None, alias="toSoftPro")


class MappingIn(BaseModel):
    """One entry of a mapping set; see docs/mappings.md."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    entity_type: EntityType
    softpro_field: Annotated[str, Field(min_length=1, max_length=500)]
    roi_systems_field: Annotated[str, Field(min_length=1, max_length=200)]
    direction: Literal["SOFTPRO_TO_ROI", "ROI_TO_SOFTPRO", "BIDIRECTIONAL"] = "BIDIRECTIONAL"
    transformation_rule: RuleText | RuleBothWays | None = None
    required: bool = False
    default_value: Annotated[str, Field(max_length=10_000)] | None = None
    enabled: bool = True
    validation_rules: dict[str, Any] | None = None

    id: UUID | None = Field(None, description="Ignored, so that the response of GET can be sent back.")

    def mapping(self) -> Mapping:
        """Return the mapping without the id."""
        return Mapping(**self.model_dump(exclude={"id", "transformation_rule"}), transformation_rule=self._rule())

    def _rule(self) -> Any:
        rule = self.transformation_rule
        return rule.model_dump(by_alias=True, exclude_none=True) if isinstance(rule, RuleBothWays) else rule


MappingsIn = Annotated[list[MappingIn], Field(min_length=1, max_length=MAX_MAPPINGS)]
ExpectedVersions = Annotated[
    dict[EntityType, Annotated[int, Field(ge=0)]] | None,
    Field(None, description="Refuses the change if another version is in force; 0 means none yet."),
]


Replace = Annotated[
    bool,
    Field(False, description="True: the mappings are the complete set of their entity types. False: the others stay."),
]


class Document(BaseModel):
    """The body of `PUT /mappings`, as a file. The integration that it was exported from is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    mappings: MappingsIn
    integration_id: UUID | None = None
    expected_versions: ExpectedVersions = None
    replace: Replace = False


def read(text: str | bytes) -> Document:
    """Read a document, or a bare list of mappings.

    Raises:
        MappingError: with every problem of its form.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as broken:
        raise MappingError([f"the mappings are not JSON: {broken}"]) from None
    try:
        return Document.model_validate({"mappings": found} if isinstance(found, list) else found)
    except ValidationError as wrong:
        raise MappingError([f"{_place(each['loc'])}: {each['msg']}" for each in wrong.errors()]) from None


def as_json(mapping: Mapping) -> dict[str, Any]:
    """Return a mapping as its entry in JSON."""
    return {name_in_json(name): value for name, value in asdict(mapping).items()}


def name_in_json(name: str) -> str:
    """Return the camel-case name of a property."""
    return to_camel(name)


def _place(steps: tuple[int | str, ...]) -> str:
    """Return where a problem is, named as `validate` names a mapping: counted from 1."""
    match steps:
        case ["mappings", int(number), *inside]:
            return ": ".join([f"mapping {number + 1}", *([".".join(map(str, inside))] if inside else [])])
        case _:
            return ".".join(map(str, steps)) or "the mappings"
