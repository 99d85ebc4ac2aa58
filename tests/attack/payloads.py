"""List texts and values that a query, a rule, a template, a header or a parser could take for its own language."""

from __future__ import annotations

from typing import Any

PRODUCT = 1337 * 1331
SQL = [
    "' or '1'='1",
    "'; drop table roi.contacts; --",
    '"; select pg_sleep(60); --',
    "1; update softpro.integrations set client_id = 'x'",
    "' union select client_secret from softpro.integrations --",
    "'||(select client_secret from softpro.integrations limit 1)||'",
    "'||pg_read_file('/etc/passwd')||'",
    "$$; delete from softpro.integrations; $$",
    "\\'; --",
    ") or (1=1",
    "%s %(a)s {0} %",
    "E'\\x27' or true",
    "1 or pg_sleep(60) is null",
    "'::xml",
    "attacked-org' /*",
]
WILDCARDS = ["%", "_%", "%%", "*", "%a%"]
"""Patterns of LIKE, which a filter must take as texts: no row has them."""

RULES = ["$$", "$eval('1337*1331')", "$lookup($$, 'a')", "($f := function() { $f() }; $f())", "**", "%.%", "$.**"]
JSON_PATHS = ["a.b.c[*]", "custom.__proto__", "constructor.prototype", 'strict $.a ? (@ like_regex ".*")', "$[0]..*"]
TEMPLATES = ["{{1337*1331}}", "${1337*1331}", "${{1337*1331}}", "#{1337*1331}", "<%= 1337*1331 %>", "{% debug %}"]
HEADERS = ["x\r\nX-Injected: yes", "\r\n\r\n<html>", "x\nSet-Cookie: _token=a", "\u560d\u560aX-Injected: yes"]
CONTROLS = ["a\x00b", "\x00", "\x7f\x1b[31m", "\ufeff", "a\u202eb"]
UNICODE = [
    "\ud800",
    "\U0001d53e\U0001f469\u200d\U0001f467",
    "\u0130\u0131\u017f",
    "\uff07 or 1=1",
    "e" + "\u0301" * 300,
]
NUMBERS = [
    "-1",
    "0",
    "9" * 400,
    "2147483648",
    "9223372036854775808",
    "-9223372036854775809",
    "1e309",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
    "\u0661",
    "1e5",
]
OTHERS = [
    "",
    " ",
    "null",
    "true",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest",
    "//evil.example/",
    "$(id)",
    "`id`",
    "<script>alert(1)</script>",
    "%n%n%s%x",
    "*)(uid=*))(|(uid=*",
    "' or count(/*)=1 or '",
    "x" * 5_000,
    "00000000-0000-0000-0000-000000000000",
    "infinity",
    "-infinity",
    "epoch",
    "294277-01-01",
]
TEXTS = [
    *SQL,
    *WILDCARDS,
    *RULES,
    *JSON_PATHS,
    *TEMPLATES,
    *HEADERS,
    *CONTROLS,
    *UNICODE,
    *NUMBERS,
    *OTHERS,
]


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    1e308,
    0.1,
    [],
    {},
    [[]],
    ["x"] * 2_000,
    {"$ne": None},
    {"__proto__": {"admin": True}},
    {"": ""},
    {"a\x00b": 1},
    _nested(60),
    _nested(200),
]
"""Values of other types than a field of a body has."""


def kind(payload: object) -> str:
    """Return the name of the list that a payload is from."""
    if not isinstance(payload, str):
        return "types and numbers"
    return next((name for name, texts in KINDS.items() if payload in texts), "others")


KINDS = {
    "SQL": SQL,
    "wildcards": WILDCARDS,
    "JSONata": RULES,
    "paths in JSON": JSON_PATHS,
    "templates": TEMPLATES,
    "headers": HEADERS,
    "NUL and controls": CONTROLS,
    "unicode": UNICODE,
    "types and numbers": NUMBERS,
}
