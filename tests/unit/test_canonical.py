"""RFC 8785: one value, one text; and the digest a verdict is bound to."""

import hashlib
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.canonical import arguments_digest, canonical_bytes, number_text, sha256_hex

# RFC 8785, appendix B: bits of a double → its text.
NUMBERS = {
    0x0000000000000000: "0",
    0x8000000000000000: "0",
    0x0000000000000001: "5e-324",
    0x8000000000000001: "-5e-324",
    0x7FEFFFFFFFFFFFFF: "1.7976931348623157e+308",
    0xFFEFFFFFFFFFFFFF: "-1.7976931348623157e+308",
    0x4340000000000000: "9007199254740992",
    0xC340000000000000: "-9007199254740992",
    0x4430000000000000: "295147905179352830000",
    0x44B52D02C7E14AF5: "9.999999999999997e+22",
    0x44B52D02C7E14AF6: "1e+23",
    0x44B52D02C7E14AF7: "1.0000000000000001e+23",
    0x444B1AE4D6E2EF4E: "999999999999999700000",
    0x444B1AE4D6E2EF4F: "999999999999999900000",
    0x444B1AE4D6E2EF50: "1e+21",
    0x3EB0C6F7A0B5ED8C: "9.999999999999997e-7",
    0x3EB0C6F7A0B5ED8D: "0.000001",
    0x41B3DE4355555553: "333333333.3333332",
    0x41B3DE4355555554: "333333333.33333325",
    0x41B3DE4355555555: "333333333.3333333",
    0x41B3DE4355555556: "333333333.3333334",
    0x41B3DE4355555557: "333333333.33333343",
    0xBECBF647612F3696: "-0.0000033333333333333333",
    0x43143FF3C1CB0959: "1424953923781206.2",
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-limits.INTEGER_MAX, limits.INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_ecmascript_writes_them(bits, text):
    (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))

    assert number_text(number) == text


def test_the_example_of_the_rfc():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }

    assert canonical_bytes(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


# RFC 8785 §3.2.4: the same example as bytes.
BYTES = (
    "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e33333333333333"
    "2c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d"
)


def test_the_bytes_of_the_rfc():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical_bytes(value).hex() == BYTES


@pytest.mark.parametrize("bits", [0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000])
def test_what_appendix_b_calls_an_error_is_one(bits):
    (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    with pytest.raises(TypeError):
        canonical_bytes(number)


def test_keys_are_ordered_by_utf_16_code_units():
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]

    written = json.loads(canonical_bytes(dict.fromkeys(keys, 0)))

    assert list(written) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def read_as_doubles(text):
    """As ECMAScript reads: a whole number beyond 2^53 is a double written out."""
    return json.loads(
        text, parse_int=lambda digits: n if abs(n := int(digits)) <= limits.INTEGER_MAX else float(digits)
    )


@given(json_values)
def test_canonical_bytes_are_json_of_the_same_value(value):
    assert read_as_doubles(canonical_bytes(value)) == value


@given(json_values)
def test_reading_and_writing_again_changes_nothing(value):
    once = canonical_bytes(value)

    assert canonical_bytes(read_as_doubles(once)) == once


@given(st.dictionaries(st.text(), st.integers(0, 9)), st.randoms())
def test_the_order_of_keys_never_matters(members, random):
    shuffled = list(members.items())
    random.shuffle(shuffled)

    assert canonical_bytes(dict(shuffled)) == canonical_bytes(members)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value(number):
    assert float(number_text(number)) == number


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {1, 2}}, "`a` is a set"),
        ({"a": [0, {"b": b"x"}]}, r"`a\[1\].b` is a bytes"),
        ({"a": math.nan}, "`a` is nan"),
        ({"a": -math.inf}, "`a` is -inf"),
        ({"a": 2**53}, "`a` is an integer beyond"),
        ({"a": -(2**53)}, "`a` is an integer beyond"),
        ({"a": "\ud800"}, "`a` holds a lone surrogate"),
        ({"a": {"\udc00": 1}}, "lone surrogate"),
        ({"a": {1: 2}}, "`a` has the key 1"),
    ],
)
def test_what_is_not_json_is_refused_by_place(value, place):
    with pytest.raises(TypeError, match=place):
        canonical_bytes(value)


def test_a_value_within_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(TypeError, match="deeper than 64"):
        canonical_bytes(endless)


def test_the_largest_exact_integer_is_kept():
    assert canonical_bytes([2**53 - 1, -(2**53 - 1)]) == b"[9007199254740991,-9007199254740991]"


def test_arguments_are_digested_by_name():
    expected = hashlib.sha256(b'{"subject":"hi","to":["a@b.example"]}').hexdigest()

    assert arguments_digest({"to": ["a@b.example"], "subject": "hi"}) == expected
    assert arguments_digest({}) == sha256_hex(b"{}")


def test_an_argument_that_is_not_json_is_named_with_a_way_out():
    with pytest.raises(TypeError, match=r"argument `when` is a object, which is not JSON; give `encode=`"):
        arguments_digest({"to": "x", "when": object()})
