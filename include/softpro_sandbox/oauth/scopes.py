"""The contract's scopes."""

SCOPES = {
    "read:transactions": "See transactions",
    "write:transactions": "Create, change and delete transactions",
    "read:contacts": "See contacts",
    "write:contacts": "Create and change contacts",
    "read:documents": "See documents",
    "write:documents": "Upload and delete documents",
    "webhooks": "Be told of changes",
}
"""Each scope and what it means to the person who consents."""


def parse_scope(text: str | None) -> tuple[str, ...]:
    """The scopes asked for, in the contract's order; all when none are named. Raises ValueError naming unknown ones."""
    asked = set((text or "").split()) or set(SCOPES)
    unknown = sorted(asked - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope: {' '.join(unknown)}")
    return tuple(scope for scope in SCOPES if scope in asked)
