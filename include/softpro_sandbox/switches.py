"""Define the switches: unknown behaviour of the real vendor, and faults that the sandbox can produce."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Lifetime = Annotated[int, Field(ge=1, le=315_360_000)]


class Switches(BaseModel):
    """All switches. The defaults follow the contract as written, with a vendor that works.

    JSON names are camelCase. A request gets at most one of the faults that replace or damage a response.
    `slow` is drawn separately and can be added to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)

    rotate_refresh: bool = Field(
        default=True, description="a refresh returns a new refresh token and invalidates the old one"
    )
    honour_updated_from: bool = Field(default=True, description="apply updatedFrom; off: ignore it and list everything")
    honour_sort: bool = Field(default=True, description="apply sortBy and sortOrder; off: list in id order")
    ties: Literal["ascending", "descending", "guid"] = Field(
        default="ascending", description="order of records with one updatedAt, by id; guid: as SQL Server sorts GUIDs"
    )
    announce_more: bool = Field(default=True, description="tell in hasMore that more follows; off: hasMore is false")
    etags: bool = Field(default=True, description="send ETags with single records and check If-Match")
    write_response: Literal["whole", "changed", "ids", "nothing"] = Field(
        default="whole", description="what a PATCH or POST returns: the record, only sent fields, only the id, or 204"
    )
    locked: tuple[str, ...] = Field(default=(), description="ids of records whose changes are refused with 409")
    lag: Seconds = Field(
        default=0, description="longest delay in seconds until a change is visible; each change draws its own"
    )
    access_token_lifetime: Lifetime = Field(default=3600, description="seconds, for tokens issued from now on")
    refresh_token_lifetime: Lifetime = Field(default=2_592_000, description="seconds, for tokens issued from now on")
    refuse_consent: bool = Field(default=False, description="refuse consent even if the user allows it")
    rate_limit: Annotated[int, Field(ge=1)] = Field(default=100, description="requests in any 60 s, per grant")
    max_page_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=200, description="largest limit of a list; a larger one is rejected"
    )
    deletes_feed: bool = Field(default=False, description="list deleted records at GET /deletions; off: return 404")
    webhook_record: bool = Field(default=True, description="send the record in a webhook's data; off: only its ids")
    clock_skew_seconds: Annotated[float, Field(ge=-31_536_000, le=31_536_000, allow_inf_nan=False)] = Field(
        default=0, description="seconds that the vendor's clock is ahead (negative: behind): Date, updatedAt, webhooks"
    )
    change_while_paging: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="number of random records of the list that change right after each list response"
    )
    fault_seed: int = Field(default=1, description="seed of the draws below; setting it restarts them")
    error500: Share = Field(default=0, description="share of calls that fail with 500 and have no effect")
    error503: Share = Field(default=0, description="share of calls that fail with 503 and have no effect")
    error429: Share = Field(
        default=0, description="share of calls that fail with 429 and Retry-After: 1, regardless of the budget"
    )
    proxy_html: Share = Field(
        default=0, description="share of calls that fail with a proxy's 502 in HTML and have no effect"
    )
    empty_body: Share = Field(default=0, description="share of calls that take effect but return an empty body")
    truncated_body: Share = Field(default=0, description="share of calls that take effect but return half the body")
    reset_connection: Share = Field(
        default=0, description="share of calls whose connection is reset before they take effect"
    )
    lost_write: Share = Field(default=0, description="share of writes whose connection is reset after they take effect")
    wrong_json: Share = Field(
        default=0, description="share of calls that take effect but return 200 with JSON of another shape"
    )
    drip_body: Share = Field(
        default=0, description="share of calls that take effect and return one byte every dripSeconds"
    )
    drip_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=1, description="seconds between the bytes of a dripped body"
    )
    transit_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0, description="longest random delay in seconds before a call arrives and is counted"
    )
    slow: Share = Field(default=0, description="share of calls that wait slowSeconds first")
    slow_seconds: Annotated[float, Field(ge=0, le=600)] = Field(default=2, description="seconds that a slow call waits")
    webhook_duplicates: Share = Field(default=0, description="share of events that are delivered twice")
    webhook_shuffle: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0, description="longest random delay in seconds before an event's first delivery"
    )
    webhook_forged: Share = Field(
        default=0, description="share of events followed by a forged one, signed with a wrong secret"
    )
    token_faults: Share = Field(
        default=0, description="share of token responses lost after the tokens were issued and rotated"
    )

    def changed(self, changes: Mapping[str, Any]) -> "Switches":
        """Return a copy with some switches set, by JSON name. Raise pydantic's ValidationError."""
        return Switches.model_validate({**self.to_json(), **changes})

    def to_json(self) -> dict[str, Any]:
        """Return every switch by its JSON name."""
        return self.model_dump(by_alias=True)


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """Parse `name=value` pairs of the command line into a mapping. Raise ValueError for text without `=`."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not name=value")
        parsed[name.strip()] = value.strip()
    return parsed
