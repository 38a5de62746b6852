"""Typed atoms: what an argument uses is found again in what an honest source offers, and in nothing else (PROVENANCE §1)."""

import string
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness_stream.client.atoms import (
    ARGUMENTS_CHARS_MAX,
    DEPTH_MAX,
    is_nothing,
    is_prose,
    is_schema_key,
    named_by_user,
    names_record,
    offered_by_text,
    offered_by_value,
    used,
)
from harness_stream.client.lookalikes import plain
from harness_stream.core import limits


def uses(value, name="to"):
    """`kind:form` of everything an argument uses."""
    return [f"{atom.kind}:{atom.form}" for atom in used(name, value).values]


def links(value):
    return [f"{atom.kind}:{atom.form}" for atom in used("body", value).links]


def offers(text):
    return {f"{atom.kind}:{atom.form}" for atom in offered_by_text(plain(text))}


def names(text):
    return {f"{atom.kind}:{atom.form}" for atom in named_by_user(plain(text))}


GOLDEN = [
    ("bob@example.com", "email:bob@example.com"),
    ("Bob.Smith+x@Example.COM", "email:bob.smith+x@example.com"),
    ("Bob Smith <bob@example.com>", "email:bob@example.com"),
    ("mailto:bob@example.com", "email:bob@example.com"),
    ("https://Example.com:443/a/B?q=1#part", "url:https://example.com/a/B?q=1"),
    ("HTTP://example.com:8080/", "url:http://example.com:8080/"),
    ("www.example.com/a", "url:https://www.example.com/a"),
    ("example.com/a", "url:https://example.com/a"),
    ("example.com:8080?a=b;c", "url:https://example.com:8080/?a=b;c"),
    ("ftp://example.com/a", "url:ftp://example.com/a"),
    ("http://[::1]/a", "url:http://[::1]/a"),
    ("javascript:alert(1", "url:javascript:alert(1"),
    ("https://www.Example.com/", "host:www.example.com"),
    ("www.example.com", "host:www.example.com"),
    ("example.com", "host:example.com"),
    ("127.0.0.1", "host:127.0.0.1"),
    ("http://[0:0::1]", "url:http://[0:0::1]/"),
    ("GB29 NWBK 6016 1331 9268 19", "account:GB29NWBK60161331926819"),
    ("gb29nwbk60161331926819", "account:GB29NWBK60161331926819"),
    ("4111 1111 1111 1111", "account:4111111111111111"),
    ("+41 79 123 45 67", "account:+41791234567"),
    ("12345678", "account:12345678"),
    ("report.PDF", "file:report.PDF"),
    ("/srv/docs/report.pdf", "file:/srv/docs/report.pdf"),
    ("./docs//report.pdf", "file:docs/report.pdf"),
    (r"C:\docs\report.pdf", "file:C:/docs/report.pdf"),
    ("/etc/passwd", "file:/etc/passwd"),
    ("550E8400-e29b-41d4-a716-446655440000", "identifier:550e8400-e29b-41d4-a716-446655440000"),
    ("ORD-4711", "identifier:ORD-4711"),
    ("External_0", "identifier:External_0"),
    ("#77", "identifier:77"),
    ("v1.2.3", "identifier:v1.2.3"),
    ("P@ss!word", "identifier:P@ss!word"),
    ("2024-05-15", "date:2024-05-15"),
    ("2024-05-15 10:00", "date:2024-05-15T10:00"),
    ("May 15th, 2024", "date:2024-05-15"),
    ("15 of May 2024", "date:2024-05-15"),
    ("13.05.2024", "date:2024-05-13"),
    ("5/13/2024", "date:2024-05-13"),
    ("05/06/2024", "date:2024-05/06"),
    ("June 13", "date:--06-13"),
    ("9:30 pm", "date:T21:30"),
    ("12:05 am", "date:T00:05"),
    ("$1,200.50", "amount:1200.5 USD"),
    ("1.200,50 €", "amount:1200.5 EUR"),
    ("12 euros", "amount:12 EUR"),
    ("CHF 12", "amount:12 CHF"),
    ("13", "number:13"),
    ("1,000", "number:1000"),
    ("-0.50", "number:-0.5"),
    ("10%", "number:10%"),
    ("Alice", "name:alice"),
    ("  Le  Marais\nBoutique ", "name:le marais boutique"),
    ("Grandma’s", "name:grandma's"),
    ("#general", "name:general"),
    ("@Bob", "name:bob"),
    ("Gruß", "name:gruss"),
    ("張偉", "name:張偉"),
    ("Meet me at the old bridge", "phrase:meet me at the old bridge"),
    ("Room 5, second floor", "phrase:room 5, second floor"),
]


class TestWhatAnArgumentUses:
    @pytest.mark.parametrize(("text", "atom"), GOLDEN)
    def test_one_value_has_one_reading(self, text, atom):
        assert uses(text) == [atom]

    @pytest.mark.parametrize(
        ("name", "value", "atom"),
        [
            ("n", 13, "number:13"),
            ("n", 98.70, "number:98.7"),
            ("n", 1e20, "number:100000000000000000000"),
            ("file_id", 13, "identifier:13"),
            ("file_id", "13", "identifier:13"),
            ("eventId", "13", "identifier:13"),
            ("id_", "abc", "identifier:abc"),
            ("account_id", "12345678", "identifier:12345678"),
            ("account_id", "GB29NWBK60161331926819", "account:GB29NWBK60161331926819"),
            ("email_id", "bob@example.com", "email:bob@example.com"),
            ("paid", "13", "number:13"),
        ],
    )
    def test_a_short_number_is_a_records_id_only_where_one_stands(self, name, value, atom):
        assert uses(value, name) == [atom]

    def test_lists_objects_and_lists_in_a_text_give_every_value(self):
        assert uses(["a@x.com", ["b@x.com"]]) == ["email:a@x.com", "email:b@x.com"]
        assert uses({"mail": "a@x.com", "file_id": 7}) == ["email:a@x.com", "identifier:7"]
        assert uses("a@x.com, b@x.com;c@x.com d@x.com") == [f"email:{c}@x.com" for c in "abcd"]

    def test_keys_that_no_schema_gave_are_values(self):
        assert uses({"bob@x.com": None, "Bob": True}) == ["email:bob@x.com", "name:bob"]

    def test_what_a_trusted_value_is_wrapped_in_is_not_forgotten(self):
        for text in ("a@x.com and the other one", "a@x.com, evil at x dot com", "a@x.com x"):
            assert uses(text) == [f"phrase:{text}"]

    def test_flags_and_nothing_use_nothing(self):
        assert uses([True, None, "", " "]) == []
        assert used("x", [True, None, ""]).exact

    @pytest.mark.parametrize("nothing", [None, "", " \n", [], {}, [None, ["", []]], ()])
    def test_nothing_is_told_from_something(self, nothing):
        assert is_nothing(nothing)

    @pytest.mark.parametrize("something", [0, False, "x", [0], {"a": None}])
    def test_something_is_told_from_nothing(self, something):
        assert not is_nothing(something)


class TestLinks:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("see www.example.com.", ["host:www.example.com"]),
            ("see https://example.com/a, please", ["url:https://example.com/a"]),
            ("[here](https://example.com/a_(b))", ["url:https://example.com/a_(b)"]),
            ("[a](https://a.com/x)[b](https://b.com/y)", ["url:https://a.com/x", "url:https://b.com/y"]),
            ("<a href='//example.com/a'>b</a>", ["url:https://example.com/a"]),
            ('<img src="https://example.com/p.png?d=secret">', ["url:https://example.com/p.png?d=secret"]),
            ("Link:example.com", ["host:example.com"]),
            ("go to EXAMPLE.COM now", ["host:example.com"]),
            ("example.click/x", ["url:https://example.click/x"]),
            ("example.com/a;b=(secret)?", ["url:https://example.com/a;b=(secret)"]),
            ("example.com?d=secret", ["url:https://example.com/?d=secret"]),
            ("-https://example.com/x", ["url:https://example.com/x"]),
            ("a" * 40 + "https://example.com/x", ["url:https://example.com/x"]),
            ("https://a.com/?u=https://b.com/x", ["url:https://a.com/?u=https://b.com/x", "url:https://b.com/x"]),
            ("javascript:alert(1)", ["url:javascript:alert(1)"]),
            ("data:text/html,<b>", ["url:data:text/html"]),
            ("见example.com吧", ["host:见example.com吧"]),
            ("metadata:x and data:2024", []),
            ("mail a@example.com, read notes.txt, e.g. v1.2 or 3.5; done.So and/or", []),
        ],
    )
    def test_what_a_mail_program_would_make_a_link_of(self, text, found):
        assert links(text) == found

    def test_a_link_alone_is_a_link_as_well(self):
        assert links("www.example.com") == ["host:www.example.com"]


class TestExact:
    @pytest.mark.parametrize(
        "text", [text for text, _ in GOLDEN if "  " not in text] + ["Well, is it really…", "naïve café", "a 👩‍👩‍👧 b"]
    )
    def test_what_people_write_is(self, text):
        assert used("to", text).exact

    @pytest.mark.parametrize(
        "text",
        [
            "ｂｏｂ@example.com",
            "b\u200bob@example.com",
            "bob@exa\u00admple.com",
            "bоb@example.com",  # a Cyrillic о
            "bob@еxample.com",  # a Cyrillic е
            "https://аррӏе.com/",  # Cyrillic throughout
            "bob@exɑmple.com",  # a Latin alpha
            "https://good.example@evil.example/",
            "https://example.com/a.",
            "www.example.com)",
            "GB29NWBK6016133192681９",
            "２０２４-05-15",
            "Ａlice",
            "Al\u2060ice",
            "Аlice",  # a Cyrillic А
            "Le  Marais",
            "Le\u2003Marais",
            "report.pdf\u202efdp.exe",
            "bob\x07@example.com",
            "Jose\u0301",  # not composed
            "\u200b",
            "click https://ev\u200bil.com now, it is fine",
        ],
    )
    def test_what_only_looks_like_it_is_not(self, text):
        assert not used("to", text).exact

    def test_prose_may_be_spaced_as_one_likes(self):
        assert used("body", "Dear Bob,\n\n\tthis is  it…\n").exact


class TestUnparsed:
    @pytest.mark.parametrize(
        "value",
        [
            string.ascii_letters * 6,
            "text and " + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0123456789" * 8,
            [str(n) for n in range(limits.ARGUMENT_VALUES_MAX + 1)],
            " ".join(f"www.x{n}.com" for n in range(limits.ARGUMENT_VALUES_MAX + 1)),
            "x " * (ARGUMENTS_CHARS_MAX // 2 + 1),
            ["x" * 100] * (ARGUMENTS_CHARS_MAX // 100 + 1),
            "\ufdfa " * (ARGUMENTS_CHARS_MAX // 8),  # drawn as eighteen characters each
        ],
        ids=["letters", "base64", "values", "links", "long", "many", "expanding"],
    )
    def test_what_is_opaque_or_too_much_is_told_so_and_not_half_read(self, value):
        use = used("body", value)
        assert (use.unparsed, use.exact, use.values, use.links) == (True, False, {}, {})

    def test_what_is_too_deep(self):
        deep = "x"
        for _ in range(DEPTH_MAX):
            deep = [deep]
        assert used("a", deep).unparsed
        assert not used("a", deep[0]).unparsed

    def test_rulers_long_links_and_languages_without_blanks_are_text(self):
        for text in ("-" * 400, "=" * 400, "https://example.com/" + "a1b2c3d4e5/" * 40, "你好世界" * 100):
            assert not used("body", text).unparsed


class TestWhatSourcesOffer:
    def test_typed_values_among_words(self):
        text = (
            "Please refund GB29NWBK60161331926819 $12.50, delete the file with ID '13' and mail bob@x.com on June 13; "
            "see 'team-building.docx', https://a.com/x. Dinner with Sarah Connor at 10:00. Order #77, ticket 881."
        )
        typed = {atom for atom in offers(text) if not atom.startswith("name:")}
        assert typed == {
            *("account:GB29NWBK60161331926819", "amount:12.5 USD", "number:12.5", "identifier:13", "email:bob@x.com"),
            *("date:--06-13", "file:team-building.docx", "url:https://a.com/x", "host:a.com", "date:T10:00"),
            *("identifier:77", "identifier:881"),
        }
        assert "name:sarah connor" in offers(text)

    def test_june_13_is_not_file_13(self):
        assert "identifier:13" not in offers("On June 13 we meet, all 13 of us")
        assert "identifier:13" in offers("Please delete file 13")

    def test_a_long_number_may_be_an_id_and_an_account(self):
        assert {"number:463820", "identifier:463820"} <= offers("your code is 463820")
        assert {"account:46382000", "identifier:46382000", "number:46382000"} <= offers("it is 46382000")

    def test_whoever_names_a_page_or_path_names_its_host_or_base_name_and_not_the_other_way_round(self):
        assert {"url:https://x.com/a", "url:http://x.com/a", "host:x.com"} <= offers("go to x.com/a")
        assert {"file:/a/b.txt", "file:b.txt"} <= offers("open /a/b.txt")
        assert "file:/a/b.txt" not in offers("open b.txt")

    def test_a_sentence_that_begins_without_a_blank_hides_nothing_and_is_not_what_a_use_reads(self):
        assert {"host:www.x.com", "host:www.x.com.they"} <= offers("our site www.x.com.They wrote")
        assert uses("www.x.com.They") == ["host:www.x.com.they"]

    def test_a_field_is_a_value_and_what_stands_inside_other_words_is_prose(self):
        one, others = offered_by_value("Pay GB29NWBK60161331926819", in_place_of_record=False)
        assert {atom.kind for atom in one} == {"phrase"}
        assert "GB29NWBK60161331926819" in {atom.form for atom in others}

    def test_prose_is_no_value(self):
        for text in ("x" * 200, "two\nlines", "This is it. And here comes more of it."):
            assert is_prose(text)
        for text in ("Dr. Smith, St. Gallen", "Re: Your ticket!", "Le Marais Boutique"):
            assert not is_prose(text)


class TestWhatAUserNames:
    def test_values_names_and_their_parts_quoted_phrases_and_words(self):
        found = names(
            "Invite Sarah Connor to 'the old bridge' in general, send her bill.txt and set it to new_password."
        )
        assert found >= {"name:sarah connor", "name:sarah", "name:the old bridge", "name:general", "file:bill.txt"}
        assert found >= {"identifier:new_password"}

    def test_little_words_name_nothing(self):
        assert names("to the and for you") == set()

    def test_a_number_that_is_quoted_is_no_id_unless_it_is_called_one(self):
        assert "identifier:13" not in names("on June '13'")
        assert "identifier:13" in names("the file with ID '13'")


class TestNames:
    @pytest.mark.parametrize(
        "name", ["id", "ids", "id_", "file_id", "fileId", "fileID", "uri", "file_uri", "uuid", "a.id"]
    )
    def test_fields_that_name_a_record(self, name):
        assert names_record(name)

    @pytest.mark.parametrize("name", ["", "paid", "grid", "idea", "video", "ID3", "kids", "fluid"])
    def test_fields_that_do_not(self, name):
        assert not names_record(name)

    def test_what_looks_like_a_schemas_key(self):
        assert all(map(is_schema_key, ["sender", "due_date", "dueDate", "_x", "x2"]))
        assert not any(map(is_schema_key, ["", "Bob", "bob@x.com", "a b", "7", "ä", "x" * 65]))


# --- Properties ---

WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)
EMAIL = st.builds("{}.{}@{}.com".format, WORD, WORD, WORD)
IBAN = st.builds(
    "{}{:02}{}".format, st.sampled_from(["GB", "DE", "CH"]), st.integers(0, 99), st.integers(10**15, 10**16 - 1)
)
URL = st.builds("https://{}.com/{}".format, WORD, WORD)
FILE = st.builds("{}-{}.pdf".format, WORD, WORD)
ID = st.builds("{}_{}".format, WORD, st.integers(0, 9999))
NAME = st.builds("{} {}".format, WORD.map(str.title), WORD.map(str.title)).filter(
    lambda n: n[:3] not in {"Jan", "Feb", "Mar"}
)
TYPED = st.one_of(EMAIL, IBAN, URL, FILE, ID)
ANY = st.one_of(TYPED, NAME)
CYRILLIC = str.maketrans({"a": "а", "e": "е", "o": "о", "p": "р", "c": "с", "x": "х", "y": "у", "i": "і", "s": "ѕ"})


@given(ANY, st.sampled_from(["", ".", "!", ",", ")"]))
def test_what_is_used_is_found_again_in_every_honest_source(value, after):
    wanted = set(uses(value))
    assert wanted <= {f"{a.kind}:{a.form}" for a in offered_by_value(value, in_place_of_record=False)[0]}
    assert wanted <= offers(f"and then we saw {value}{after} over there")
    assert wanted <= names(f"please take {value}{after} with you")
    assert wanted <= names(f"please take '{value}' with you")


@given(st.text(max_size=60))
def test_any_text_that_is_a_value_is_found_again_in_a_field_that_holds_it(text):
    use, seen = used("to", text), plain(text).strip()
    assume(use.values and not is_prose(seen))
    assert set(use.values) <= set(offered_by_value(seen, in_place_of_record=False)[0])


@given(EMAIL, st.randoms(use_true_random=False))
def test_case_of_an_address_does_not_matter(value, random):
    mixed = "".join(random.choice([c.lower(), c.upper()]) for c in value)
    assert uses(mixed) == uses(value)
    assert used("to", mixed).exact


@given(IBAN)
def test_an_account_is_the_same_in_groups_of_four(value):
    grouped = " ".join(value[at : at + 4] for at in range(0, len(value), 4))
    assert uses(grouped) == uses(value) == [f"account:{value}"]
    assert used("to", grouped).exact


@given(NAME, st.text(" \t\n", min_size=2, max_size=4))
def test_spacing_and_case_of_a_name_do_not_matter_but_it_is_not_exact(value, blanks):
    respaced = value.upper().replace(" ", blanks)
    assert uses(respaced) == uses(value)
    assert not used("to", respaced).exact


@given(st.integers(0, 10**9), st.integers(0, 99))
def test_grouping_of_an_amount_does_not_matter(whole, cents):
    assert uses(f"${whole:,}.{cents:02}") == uses(f"{whole}.{cents:02} USD")


@given(ANY, st.data())
def test_a_look_alike_is_never_exact(value, data):
    letters = [at for at, char in enumerate(value) if char.isalnum()]
    at = data.draw(st.sampled_from(letters))
    wide = value[:at] + chr(ord(value[at]) + 0xFEE0) + value[at + 1 :]
    assert not used("to", wide).exact
    hidden = data.draw(st.sampled_from("\u200b\u200d\u2060\ufeff\u00ad\u202e"))
    assert not used("to", value[:at] + value[at : at + 1] + hidden + value[at + 1 :] + "x").exact
    foreign = value[:at] + value[at].translate(CYRILLIC) + value[at + 1 :]
    assert foreign == value or not used("to", foreign).exact


@given(TYPED, st.data())
def test_a_value_cut_in_two_is_another_one(value, data):
    at = data.draw(st.integers(1, len(value) - 1))
    use = used("to", f"{value[:at]} {value[at:]}")
    assert set(use.values) != set(used("to", value).values) or not use.exact or value[:2].isupper()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=10,
    )
)
def test_any_json_gives_bounded_atoms_and_the_same_ones_again(value):
    use = used("to", value)
    assert max(len(use.values), len(use.links)) <= limits.ARGUMENT_VALUES_MAX
    assert used("to", value) == use
    assert all(atom.form for atom in use.values)


@given(st.text())
def test_the_plain_reading_of_a_plain_text_is_itself(text):
    once = plain(text)
    assert plain(once) == once
    assert unicodedata.is_normalized("NFKC", once)


@given(st.text(max_size=80))
def test_a_percent_encoded_path_is_another_path(text):
    assume(quote(text, safe="") != text)
    assert uses(f"https://x.com/a{quote(text, safe='')}") != uses("https://x.com/a")


HOSTILE = [
    "a",
    "1 ",
    "1\n",
    "a.",
    "1.",
    "@",
    "a@",
    "a@b.",
    "//",
    "www.",
    "'",
    '"',
    "A ",
    "<",
    "1-",
    "[",
    "\\a",
    "/a",
    "https://",
]
HOSTILE += [
    "GB12 ",
    "$1",
    "1$",
    "1,",
    "1:2",
    "May 1 ",
    "_",
    "a_",
    "#1",
    "id 1 ",
    "é",
    "ﷺ",
    "中",
    "а",
    "x?x=",
    "://",
    "“a",
    "<a@b.c>",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_takes_longer_than_its_length_allows(unit):
    """64 KiB: a quadratic pattern would take minutes, a linear one a fraction of a second."""
    text = (unit * (65_536 // len(unit)))[:65_536]
    began = time.process_time()
    used("body", text)
    list(offered_by_text(plain(text)[:65_536]))
    assert time.process_time() - began < 10
