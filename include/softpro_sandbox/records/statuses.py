"""List the statuses of orders as `GET /statuses` returns them."""

from softpro_sandbox.records.codec import Record

_ROWS = (
    ("OPENED", "Opened", "OPEN"),
    ("IN_PROGRESS", "In Progress", "OPEN"),
    ("PENDING_CLOSING", "Pending Closing", "OPEN"),
    ("CLOSED", "Closed", "CLOSED"),
    ("CANCELLED", "Cancelled", "CLOSED"),
    ("ON_HOLD", "On Hold", "PAUSED"),
)

STATUSES: tuple[Record, ...] = tuple(
    {
        "statusId": f"sts-{number:02d}",
        "statusName": name,
        "statusCode": code,
        "category": category,
        "isActive": True,
        "sortOrder": number * 10,
    }
    for number, (code, name, category) in enumerate(_ROWS, start=1)
)
"""The six statuses of the contract. `category` is OPEN, CLOSED or PAUSED, as the contract names no values."""

CODES: dict[str, str] = {status["statusId"]: status["statusCode"] for status in STATUSES}
"""An order's `status` by the id that `PATCH /transactions/{orderId}/status` takes."""
