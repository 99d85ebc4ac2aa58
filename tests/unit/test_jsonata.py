"""Evaluate JSONata rules as its documentation (docs.jsonata.org) says, through the product's evaluator."""

from __future__ import annotations

from typing import Any

import pytest

from ..support.jsonata import UNDEFINED, Failed, evaluate

ORDER: dict[str, Any] = {
    "orderNumber": "TX-1",
    "status": "OPENED",
    "price": 350000.5,
    "county": None,
    "notes": "",
    "insured": False,
    "fee": 0,
    "address": {"street": "1 Main St", "city": "Tempe", "zip code": "85281"},
    "buyer": [
        {"name": "Ann", "share": 60, "phones": [{"type": "home", "number": "1"}, {"type": "cell", "number": "2"}]},
        {"name": "Bob", "share": 40, "phones": [{"type": "cell", "number": "3"}]},
    ],
    "tags": ["rush", "vip", "rush"],
    "grid": [[1, 2], [3, 4]],
}

# Path, predicate and wildcard: docs.jsonata.org/simple, /predicate, /path-operators
PATHS = [
    ("status", "OPENED"),
    ("address.city", "Tempe"),
    ("address.`zip code`", "85281"),
    ('address."zip code"', "85281"),
    ("absent", UNDEFINED),
    ("address.absent.deeper", UNDEFINED),
    ("status.deeper", UNDEFINED),
    ("county", None),
    ("county.deeper", UNDEFINED),
    ("buyer[0].name", "Ann"),
    ("buyer[-1].name", "Bob"),
    ("buyer[2].name", UNDEFINED),
    ("buyer[0.9].name", "Ann"),
    ("buyer.name", ["Ann", "Bob"]),
    ("(buyer.name)[0]", "Ann"),
    ("buyer.phones.number", ["1", "2", "3"]),
    ("buyer.phones[0].number", ["1", "3"]),
    ("(buyer.phones)[0].number", "1"),
    ("buyer[[0..1]].name", ["Ann", "Bob"]),
    ("buyer[name = 'Bob'].share", 40),
    ("buyer[share > 50].name", "Ann"),
    ("buyer[share > 90].name", UNDEFINED),
    ("buyer.phones[type = 'cell'].number", ["2", "3"]),
    ("buyer[phones.type = 'home'].name", UNDEFINED),
    ("buyer['home' in phones.type].name", "Ann"),
    ("buyer.name[]", ["Ann", "Bob"]),
    ("buyer[0].name[]", ["Ann"]),
    ("grid[0]", [1, 2]),
    ("grid[0][1]", 2),
    ("grid.$[0]", [1, 3]),
    ("address.*", ["1 Main St", "Tempe", "85281"]),
    ("*.city", "Tempe"),
    ("**.number", ["1", "2", "3"]),
    ("buyer.phones.%.name", ["Ann", "Ann", "Bob"]),
    ("buyer#$i.{'n': name, 'at': $i}", [{"n": "Ann", "at": 0}, {"n": "Bob", "at": 1}]),
    ("buyer@$b.{'of': $b.name, 'in': address.city}", [{"of": "Ann", "in": "Tempe"}, {"of": "Bob", "in": "Tempe"}]),
    ("$", ORDER),
    ("$$.status", "OPENED"),
    ("buyer.$$.status", ["OPENED", "OPENED"]),
    ("$record.status", "OPENED"),
    ("buyer.($record.status & name)", ["OPENEDAnn", "OPENEDBob"]),
]
# docs.jsonata.org/expressions, /comparison-operators, /boolean-operators, /other-operators, /numeric-operators
OPERATORS = [
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("7 / 2", 3.5),
    ("7 % 2", 1),
    ("-7 % 2", -1),
    ("-price", -350000.5),
    ("0.1 + 0.2", 0.3),
    ("absent + 1", UNDEFINED),
    ("'a' & 'b'", "ab"),
    ("1 & true & null & [1, 2]", "1truenull[1,2]"),
    ("absent & 'x'", "x"),
    ("1 = 1.0", True),
    ("1 = '1'", False),
    ("1 != '1'", True),
    ("null = null", True),
    ("absent = absent", False),
    ("absent = null", False),
    ("[1, 2] = [1, 2]", True),
    ("{'a': 1} = {'a': 1}", True),
    ("2 > 10", False),
    ("'2' > '10'", True),
    ("1 <= 1 and 1 >= 1", True),
    ("absent > 1", UNDEFINED),
    ("'vip' in tags", True),
    ("'x' in tags", False),
    ("'OPENED' in status", True),
    ("true and false or true", True),
    ("notes or insured or fee or county or absent", False),
    ("tags and address", True),
    ("price > 1000 ? 'dear' : 'cheap'", "dear"),
    ("insured ? 'yes'", UNDEFINED),
    ("absent ? 1 : 2", 2),
    ("county ? 1 : 2", 2),
    ("county ?? 'none'", None),
    ("absent ?? 'none'", "none"),
    ("notes ?: 'none'", "none"),
    ("fee ?: 5", 5),
    ("[1..5]", [1, 2, 3, 4, 5]),
    ("[3..1]", []),
    ("[1, 2, [3, 4]]", [1, 2, [3, 4]]),
    ("[buyer.name, 'x']", ["Ann", "Bob", "x"]),
    ("{'n': orderNumber, 'gone': absent, 'nil': county}", {"n": "TX-1", "nil": None}),
    ("buyer{name: share}", {"Ann": 60, "Bob": 40}),
    ("buyer.phones{type: $count(number)}", {"home": 1, "cell": 2}),
    ("buyer^(share).name", ["Bob", "Ann"]),
    ("buyer^(>share, name).name", ["Ann", "Bob"]),
    ("($a := 1; $b := $a + 1; $a + $b)", 3),
    ("status ~> $lowercase", "opened"),
    ("status ~> $lowercase ~> $substring(0, 2)", "op"),
    ("($shout := $uppercase ~> $trim; $shout(' a '))", "A"),
    ("address ~> |$|{'city': 'Mesa'}, ['street']|", {"city": "Mesa", "zip code": "85281"}),
    ("/* said */ 'out loud'", "out loud"),
]
# docs.jsonata.org/string-functions
STRINGS = [
    ("$string(1.50)", "1.5"),
    ("$string({'a': [1, null]})", '{"a":[1,null]}'),
    ("$string(true)", "true"),
    ("$length('añ😀')", 3),
    ("$substring('hello', 1)", "ello"),
    ("$substring('hello', 1, 2)", "el"),
    ("$substring('hello', -3, 2)", "ll"),
    ("$substringBefore('a-b-c', '-')", "a"),
    ("$substringBefore('abc', '-')", "abc"),
    ("$substringAfter('a-b-c', '-')", "b-c"),
    ("$uppercase('añ')", "AÑ"),
    ("$lowercase('ÄB')", "äb"),
    ("$trim('  a  \n b ')", "a b"),
    ("$pad('x', 3)", "x  "),
    ("$pad('x', -3, '0')", "00x"),
    ("$contains('abc', 'b')", True),
    ("$contains('abc', /B/i)", True),
    ("$split('a, b,c', ', ')", ["a", "b,c"]),
    ("$split('a1b22c', /[0-9]+/)", ["a", "b", "c"]),
    ("$split('a b c', ' ', 2)", ["a", "b"]),
    ("$join(tags, '-')", "rush-vip-rush"),
    ("$join(['a', 'b'])", "ab"),
    ("$match('ab12', /([a-z]+)([0-9]+)/)", {"match": "ab12", "index": 0, "groups": ["ab", "12"]}),
    ("$match('ab', /[0-9]/)", UNDEFINED),
    ("$replace('a.b.c', '.', '-')", "a-b-c"),
    ("$replace('a.b.c', '.', '-', 1)", "a-b.c"),
    ("$replace('265USD', /([0-9]+)USD/, '$$$1')", "$265"),
    ("$replace('abc', /[ac]/, function($m) { $uppercase($m.match) })", "AbC"),
    ("$eval('[1, $uppercase(\"b\")]')", [1, "B"]),
    ("$base64encode('ab')", "YWI="),
    ("$base64decode('YWI=')", "ab"),
    ("$encodeUrlComponent('a b&c')", "a%20b%26c"),
    ("$decodeUrlComponent('a%20b')", "a b"),
    ("$uppercase(absent)", UNDEFINED),
    ("$length(absent)", UNDEFINED),
]
# docs.jsonata.org/numeric-functions, /aggregation-functions
NUMBERS = [
    ("$number('12.50')", 12.5),
    ("$number(true)", 1),
    ("$number('0x1F')", 31),
    ("$number(absent)", UNDEFINED),
    ("$abs(-5)", 5),
    ("$floor(-5.3)", -6),
    ("$ceil(5.3)", 6),
    ("$round(123.456, 2)", 123.46),
    ("$round(11.5)", 12),
    ("$round(12.5)", 12),
    ("$round(125, -1)", 120),
    ("$power(2, 8)", 256),
    ("$sqrt(4)", 2),
    ("$formatNumber(12345.6, '#,###.00')", "12,345.60"),
    ("$formatNumber(0.14, '01%')", "14%"),
    ("$formatBase(100, 2)", "1100100"),
    ("$formatInteger(2789, 'w')", "two thousand, seven hundred and eighty-nine"),
    ("$formatInteger(1999, 'I')", "MCMXCIX"),
    ("$parseInteger('12,345', '#,##0')", 12345),
    ("$sum(buyer.share)", 100),
    ("$sum([])", 0),
    ("$sum(absent)", UNDEFINED),
    ("$max([1, 5, 2])", 5),
    ("$min([])", UNDEFINED),
    ("$average([1, 2])", 1.5),
    ("$count(buyer)", 2),
    ("$count(absent)", 0),
    ("$count(county)", 1),
]
# docs.jsonata.org/boolean-functions, /array-functions, /object-functions
COLLECTIONS = [
    ("$boolean('')", False),
    ("$boolean('0')", True),
    ("$boolean([0, ''])", False),
    ("$boolean([0, 1])", True),
    ("$boolean({})", False),
    ("$boolean(absent)", UNDEFINED),
    ("$not(0)", True),
    ("$exists(absent)", False),
    ("$append([1], [2, 3])", [1, 2, 3]),
    ("$append(1, absent)", 1),
    ("$sort(['b', 'a'])", ["a", "b"]),
    ("$sort(buyer, function($l, $r) { $l.share > $r.share }).name", ["Bob", "Ann"]),
    ("$reverse([1, 2])", [2, 1]),
    ("$distinct(tags)", ["rush", "vip"]),
    ("$zip([1, 2], ['a', 'b'])", [[1, "a"], [2, "b"]]),
    ("$count($shuffle([1, 2, 3]))", 3),
    ("$keys(address)", ["street", "city", "zip code"]),
    ("$lookup(address, 'city')", "Tempe"),
    ("$lookup(address, 'x')", UNDEFINED),
    ("$spread({'a': 1, 'b': 2})", [{"a": 1}, {"b": 2}]),
    ("$merge([{'a': 1}, {'b': 2, 'a': 3}])", {"a": 3, "b": 2}),
    ("$each({'a': 1}, function($v, $k) { $k & $v })", "a1"),
    ("$sift(address, function($v, $k) { $k = 'city' })", {"city": "Tempe"}),
    ("$type(absent)", UNDEFINED),
    (
        "[$type(null), $type(1), $type(''), $type(true), $type([]), $type({})]",
        ["null", "number", "string", "boolean", "array", "object"],
    ),
    ("$type($sum)", "function"),
]
# docs.jsonata.org/programming, /higher-order-functions, /date-time
PROGRAMS = [
    ("(function($x) { $x * $x })(3)", 9),
    ("(λ($x) { $x + 1 })(1)", 2),
    ("($f := function($n) { $n < 2 ? 1 : $n * $f($n - 1) }; $f(10))", 3628800),
    ("($n := 5; $add := function($x) { $x + $n }; $add(1))", 6),
    ("($first := $substring(?, 0, 1); $first('hello'))", "h"),
    ("$map(buyer, function($b, $i) { $i & $b.name })", ["0Ann", "1Bob"]),
    ("$map([1], function($v) { $v * 2 })", 2),
    ("$filter(buyer, function($b) { $b.share > 50 }).name", "Ann"),
    ("$filter([1], function($v) { $v > 5 })", UNDEFINED),
    ("$single(buyer, function($b) { $b.name = 'Bob' }).share", 40),
    ("$reduce([1..5], function($a, $b) { $a * $b })", 120),
    ("$reduce([], function($a, $b) { $a + $b }, 7)", 7),
    ("$toMillis('2025-03-01T17:04:05.123Z')", 1740848645123),
    ("$fromMillis(1740848645123)", "2025-03-01T17:04:05.123Z"),
    ("$fromMillis(1740848645123, '[M01]/[D01]/[Y0001]')", "03/01/2025"),
    ("$fromMillis($toMillis('03/01/2025', '[M01]/[D01]/[Y0001]'))", "2025-03-01T00:00:00.000Z"),
    ("$toMillis(absent)", UNDEFINED),
    ("$now() ~> /^[0-9]{4}-[0-9]{2}-[0-9]{2}T/ ~> $exists", True),
    ("$now() = $now()", True),
]
ERRORS = [
    ("1 + 'a'", "T2002"),
    ("-'a'", "D1002"),
    ("'a' > 1", "T2009"),
    ("1 / 0", "D1001"),
    ("[1 / 0]", "D1001"),
    ("$number('x')", "D3030"),
    ("$sqrt(-1)", "D3060"),
    ("$sum(['a'])", "T0412"),
    ("$uppercase(1)", "T0410"),
    ("$error('not this one')", "not this one"),
    ("$assert(price < 0, 'too dear')", "too dear"),
    ("$nothing()", "T1006"),
    ("$single(buyer, function($b) { true })", "D3138"),
    ("$toMillis('soon')", "D3110"),
    ("$sum", "function"),
    ("$toMillis", "function"),
]
CASES = [*PATHS, *OPERATORS, *STRINGS, *NUMBERS, *COLLECTIONS, *PROGRAMS]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    rules = [rule for rule, _ in [*CASES, *ERRORS]]
    return dict(zip(rules, evaluate([(rule, ORDER) for rule in rules]), strict=True))


@pytest.mark.parametrize(("rule", "expected"), CASES)
def test_a_rule_evaluates_to_the_documented_value(outcomes: dict[str, Any], rule: str, expected: Any) -> None:
    found = outcomes[rule]
    assert (type(found), found) == (type(expected), expected) or (
        isinstance(expected, (int, float)) and found == expected
    )


@pytest.mark.parametrize(("rule", "message"), ERRORS)
def test_a_rule_that_the_language_refuses_fails_with_its_code(
    outcomes: dict[str, Any], rule: str, message: str
) -> None:
    assert isinstance(outcomes[rule], Failed), outcomes[rule]
    assert message in outcomes[rule].message


# The five kinds of empty values, and the expressions that distinguish them.
NOTHINGS = {"zero": 0, "false": False, "empty": "", "null": None, "missing": UNDEFINED}
DISTINGUISHED_BY: dict[str, list[Any]] = {
    "$": [0, False, "", None, UNDEFINED],
    "$exists($)": [True, True, True, True, False],
    "$type($)": ["number", "boolean", "string", "null", UNDEFINED],
    "$ = null": [False, False, False, True, False],
    "$ = 0": [True, False, False, False, False],
    "$ = false": [False, True, False, False, False],
    "$ = ''": [False, False, True, False, False],
    "$boolean($)": [False, False, False, False, UNDEFINED],
    "$ ? 'some' : 'none'": ["none", "none", "none", "none", "none"],
    "$ ?? 'default'": [0, False, "", None, "default"],
    "$ ?: 'default'": ["default"] * 5,
    "$string($)": ["0", "false", "", "null", UNDEFINED],
    "$ & '.'": ["0.", "false.", ".", "null.", "."],
    "[$]": [[0], [False], [""], [None], []],
    "{'v': $}": [{"v": 0}, {"v": False}, {"v": ""}, {"v": None}, {}],
    "$count($)": [1, 1, 1, 1, 0],
}


@pytest.mark.parametrize("rule", DISTINGUISHED_BY)
def test_zero_false_an_empty_text_null_and_missing_are_five_things(rule: str) -> None:
    found = evaluate([(rule, value) for value in NOTHINGS.values()])
    expected = DISTINGUISHED_BY[rule]
    assert [(type(each), each) for each in found] == [(type(each), each) for each in expected]
