"""List the contract's scopes."""

SCOPES = {
    "read:transactions": "See transactions",
    "write:transactions": "Create, change and delete transactions",
    "read:contacts": "See contacts",
    "write:contacts": "Create and change contacts",
    "read:documents": "See documents",
    "write:documents": "Upload and delete documents",
    "webhooks": "Receive notifications of changes",
}
"""Each scope, with the description that the consent page shows."""


def parse_scope(text: str | None) -> tuple[str, ...]:
    """Return the requested scopes in the contract's order; all scopes when none is named.

    Raises:
        ValueError: a scope is unknown; the message names it.
    """
    asked = set((text or "").split()) or set(SCOPES)
    unknown = sorted(asked - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope: {' '.join(unknown)}")
    return tuple(scope for scope in SCOPES if scope in asked)
