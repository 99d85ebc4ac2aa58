"""The switches: what the real vendor may do otherwise, and how the sandbox can be told to misbehave."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Lifetime = Annotated[int, Field(ge=1, le=315_360_000)]


class Switches(BaseModel):
    """Every switch and its default, which is the contract as written and a vendor in good health.

    Names are camelCase outside. At most one of the faults that replace or spoil an answer befalls a request;
    `slow` is drawn apart and may come on top.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)

    rotate_refresh: bool = Field(
        default=True, description="a refresh answers with a new refresh token and kills the old one"
    )
    honour_updated_from: bool = Field(
        default=True, description="updatedFrom filters; off: it is ignored and all is listed"
    )
    honour_sort: bool = Field(
        default=True, description="sortBy and sortOrder count; off: lists are in the order of ids"
    )
    etags: bool = Field(default=True, description="single records carry an ETag and If-Match is checked")
    lag: Seconds = Field(default=0, description="seconds within which a change surfaces, each by its own random delay")
    access_token_lifetime: Lifetime = Field(default=3600, description="seconds, for tokens issued from now on")
    refresh_token_lifetime: Lifetime = Field(default=2_592_000, description="seconds, for tokens issued from now on")
    refuse_consent: bool = Field(default=False, description="whatever button is pressed, consent is refused")
    rate_limit: Annotated[int, Field(ge=1)] = Field(default=100, description="requests in any 60 s, per grant")
    max_page_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=200, description="the largest limit of a list; more is refused"
    )
    deletes_feed: bool = Field(default=False, description="GET /deletions lists what was deleted; off: it answers 404")
    webhook_record: bool = Field(default=True, description="a webhook carries the record in data; off: just its ids")
    clock_skew_seconds: Annotated[float, Field(ge=-31_536_000, le=31_536_000, allow_inf_nan=False)] = Field(
        default=0, description="seconds the vendor's clock is fast, or slow when negative: Date, updatedAt, webhooks"
    )
    change_while_paging: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="this many random records of the list change right after each list answer"
    )
    fault_seed: int = Field(default=1, description="seeds the draws below; setting it starts them afresh")
    error500: Share = Field(default=0, description="share of calls answered 500, nothing done")
    error503: Share = Field(default=0, description="share of calls answered 503, nothing done")
    error429: Share = Field(default=0, description="share of calls answered 429 with Retry-After: 1, budget or not")
    proxy_html: Share = Field(default=0, description="share of calls answered 502 with a proxy's HTML, nothing done")
    empty_body: Share = Field(default=0, description="share of calls carried out and answered with an empty body")
    truncated_body: Share = Field(default=0, description="share of calls carried out and answered with half the body")
    reset_connection: Share = Field(default=0, description="share of calls whose connection is reset, nothing done")
    lost_write: Share = Field(default=0, description="share of writes carried out, then the connection is reset")
    wrong_json: Share = Field(
        default=0, description="share of calls carried out and answered 200 with JSON of another shape"
    )
    drip_body: Share = Field(
        default=0, description="share of calls carried out whose answer comes a byte every dripSeconds"
    )
    drip_seconds: Annotated[float, Field(ge=0, le=600)] = Field(default=1, description="between the bytes of a drip")
    transit_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0, description="each call takes a random time up to this to arrive, before it is counted"
    )
    slow: Share = Field(default=0, description="share of calls that wait slowSeconds first")
    slow_seconds: Annotated[float, Field(ge=0, le=600)] = Field(default=2, description="how long a slow call waits")
    webhook_duplicates: Share = Field(default=0, description="share of events that are delivered twice")
    webhook_shuffle: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0, description="an event waits a random time up to this many seconds before its first delivery"
    )
    webhook_forged: Share = Field(
        default=0, description="share of events that a forged one follows, signed with a wrong secret"
    )
    token_faults: Share = Field(
        default=0, description="share of token answers lost after the tokens were issued and rotated"
    )

    def changed(self, changes: Mapping[str, Any]) -> "Switches":
        """These switches with some set otherwise, by outside name. Raises pydantic's ValidationError."""
        return Switches.model_validate({**self.to_json(), **changes})

    def to_json(self) -> dict[str, Any]:
        """Every switch by its outside name."""
        return self.model_dump(by_alias=True)


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """`name=value` pairs of the command line as a mapping; raises ValueError for text without `=`."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not name=value")
        parsed[name.strip()] = value.strip()
    return parsed
