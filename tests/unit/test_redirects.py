"""Accept as the redirectPath of connect only pages of the frontend, in every spelling."""

from __future__ import annotations

from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.connections.redirects import address, validate_path
from softpro.errors import UsageError

FRONTEND = "https://app.example"

GOOD = [
    "/",
    "/settings",
    "/settings/integrations/softpro/",
    "/settings?tab=softpro&page=2",
    "/a?b",
    "/~user/it's(here);v=1,2*3!$&@:+=._-",
    "/caf%C3%A9/two%20words",
    "/..well/a..b/...",
    "/search?range=1..2&path=a/../b",
    "/" + "x" * 511,
]
HOSTILE = [
    "",
    "settings",
    "?tab=1",
    "//evil.example",
    "///evil.example",
    "/settings//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%5Cevil.example",
    "/%2Fevil.example",
    "/%2f%2fevil.example",
    "https://evil.example",
    "https:/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/next?to=https://evil.example",
    "@evil.example",
    ".evil.example",
    ":443/x",
    " /settings",
    "/two words",
    "/settings\t",
    "/\t/evil.example",
    "/\n/evil.example",
    "/settings\r\nSet-Cookie: a=b",
    "/settings%0d%0aSet-Cookie:%20a=b",
    "/nul\x00",
    "/nul%00",
    "/del\x7f",
    "/next%C2%85line",
    "/..",
    "/../admin",
    "/a/../../b",
    "/a/..?b=c",
    "/%2e%2e/admin",
    "/a/.%2E",
    "/a%2f..%2fb",
    "/settings#fragment",
    "/settings?a=b#c",
    "/café",
    "/\u2028",
    "/\uff0fevil.example",
    "/<script>",
    '/"',
    "/broken%",
    "/broken%zz",
    "/settings?status=connected",
    "/settings?a=b&message=all+is+well",
    "/settings?%73tatus=connected",
    "/settings?integration",
    "/" + "x" * 512,
]


@pytest.mark.parametrize("path", GOOD)
def test_a_page_of_the_frontend_is_taken_as_it_is(path: str) -> None:
    assert validate_path(path) == path


@pytest.mark.parametrize("path", HOSTILE)
def test_anything_else_is_refused_with_a_sentence_that_does_not_repeat_it(path: str) -> None:
    with pytest.raises(UsageError, match=r"^redirectPath should ") as refused:
        validate_path(path)
    assert "evil" not in str(refused.value)


@given(st.text(alphabet="/\\.%25efEF?#&=:@ \t\nax", max_size=12))
def test_no_path_that_is_taken_leads_away_from_the_frontend(text: str) -> None:
    try:
        path = validate_path(text)
    except UsageError:
        return
    outcome = {"integration": "softpro", "status": "connected"}
    parts = urlsplit(address(f"{FRONTEND}/below", path, outcome))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "app.example", "")
    assert parts.path.startswith("/below/")
    assert urlsplit(urljoin(FRONTEND, parts.path)).path.startswith("/below/")
    assert dict(parse_qsl(parts.query)).items() >= outcome.items()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, "https://app.example?status=error&message=it+was+%26+is+no"),
        ("/", "https://app.example/?status=error&message=it+was+%26+is+no"),
        ("/a/b", "https://app.example/a/b?status=error&message=it+was+%26+is+no"),
        ("/a?tab=1", "https://app.example/a?tab=1&status=error&message=it+was+%26+is+no"),
    ],
)
def test_the_outcome_comes_after_the_paths_own_query(path: str | None, expected: str) -> None:
    assert address(FRONTEND, path, {"status": "error", "message": "it was & is no"}) == expected
