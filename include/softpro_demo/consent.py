"""Submit the vendor's consent page as a user would."""

from __future__ import annotations

from html.parser import HTMLParser

import requests


class _Form(HTMLParser):
    """Collects a form's address, hidden fields, radio buttons and submit buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = attributes.get("action", "")
        elif tag == "input" and attributes.get("name"):
            self.fields.setdefault(attributes["name"], attributes.get("value", ""))


def give(authorization_url: str, decision: str = "allow", **choices: str) -> str:
    """Submit the consent page at this address, and return the address to which the vendor redirects the browser.

    Args:
        authorization_url: the address of the consent page.
        decision: "allow" or "refuse".
        choices: values of other fields by name; by default the first option of each.

    Raises:
        requests.HTTPError: the vendor returned an error.
    """
    page = requests.get(authorization_url, timeout=30)
    page.raise_for_status()
    form = _Form()
    form.feed(page.text)
    response = requests.post(
        requests.compat.urljoin(page.url, form.action),
        data={**form.fields, **choices, "decision": decision},
        allow_redirects=False,
        timeout=30,
    )
    response.raise_for_status()
    return response.headers["Location"]
