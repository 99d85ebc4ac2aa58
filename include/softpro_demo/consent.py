"""Does what a person does on the vendor's consent page: reads it, chooses, and presses a button."""

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
    """Answers the consent page behind this address. Returns the address the vendor sends the browser to.

    The first of several choices is taken unless `choices` names another. Raises requests.HTTPError.
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
