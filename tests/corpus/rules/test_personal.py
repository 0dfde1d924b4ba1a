"""Personal data: what is found among planted data and look-alikes, and what becomes of it."""
# ruff: noqa: RUF001 (what looks like ASCII and is not is what is tested)

import pickle
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.rules.personal import KINDS, Personal, personal_data
from trainer.corpus.rules.phones import phone_numbers
from trainer.corpus.rules.vocabulary import listed
from trainer.demo.docstrings import read_docstrings
from trainer.demo.packages import source_files
from trainer.recipe.curation import PersonalRule

# (text with the datum between « and », kind)
PLANTED = [
    ("Write to «jane.doe@example.com» today.", "email"),
    ("«j_doe+lists@mail.example.co.uk»", "email"),
    ("(«x@y.io»), said he", "email"),
    ("mailto:«jane@firma.de»?subject=Hi", "email"),
    ("Jürgen <«jürgen@bücher.de»>", "email"),
    ("联系«jane@example.com»谢谢", "email"),
    ("email='«o'brien@example.org»'", "email"),
    ("Reach me at «JANE@EXAMPLE.COM».", "email"),
    ("ftp://anonymous:«jane@home.org»@ftp.example.org/", "email"),
    ("«user@xn--bcher-kva.example»", "email"),
    ("Failed login from «93.184.216.34» at noon", "ip"),
    ("http://«151.101.1.69»/index.html", "ip"),
    ("The DNS server is «8.8.8.8».", "ip"),
    ("host=«1.1.1.1»:53", "ip"),
    ("see «2606:4700:4700::1111» for it", "ip"),
    ("http://[«2a00:1450:4001:82a::200e»]/", "ip"),
    ("«2001:4860:4860:0:0:0:0:8888»", "ip"),
    ("Call «+44 20 7946 0958» now", "phone"),
    ("«+1 (212) 555-0147»", "phone"),
    ("«+49 30 12345678»", "phone"),
    ("«+49 (0)30 123456-78»", "phone"),
    ("tel:«+12125550147»", "phone"),
    ("«+33 1 23 45 67 89», Paris", "phone"),
    ("«(212) 555-0147» or «1-800-555-0199»", "phone"),
    ("Fax «212-555-0147».", "phone"),
    ("It is «212.555.0147».", "phone"),
    ("Phone: «555-0147»", "phone"),
    ("my phone number is «5552013344»", "phone"),
    ("call me at «212 555 0147»!", "phone"),
    ("Ring «030 1234567» or call me «0221 1234567»", "phone"),
    ("London «020 7946 0958»", "phone"),
    ("«07700 900123» or «0161 496 0000»", "phone"),
    ("«(01632) 960001»", "phone"),
    ("Berlin «030/1234567» und «(0221) 123456-78»", "phone"),
    ("Tel. «089 1234567», Mobil «0171 1234567»", "phone"),
    ("card «4111 1111 1111 1111» ok", "card"),
    ("«4111-1111-1111-1111»", "card"),
    ("«5500005555555559»", "card"),
    ("Amex «3782 822463 10005».", "card"),
    ("«2223003122003222»", "card"),
    ("«6011111111111117», «3530111333300000»", "card"),
    ("«30569309025904»", "card"),
    ("«4111 - 1111 - 1111 - 1111» or «4111.1111.1111.1111»", "card"),
    ("«4111 1111 1111 1111» 12/26 123", "card"),
    ("2024 «4111 1111 1111 1111» 12 34", "card"),
    ("IBAN «DE89 3704 0044 0532 0130 00», BIC COBADEFF", "iban"),
    ("«GB29NWBK60161331926819» or «GB29-NWBK-6016-1331-9268-19»", "iban"),
    ("«FR14 2004 1010 0505 0001 3M02 606» BIC ABCDEF", "iban"),
    ("«NL91 ABNA 0417 1643 00»", "iban"),
    ("«CH93 0076 2011 6238 5295 7»", "iban"),
    ("«NO93 8601 1117 947»", "iban"),
    ("IBAN为«MT84MALT011000012345MTLCAST001S»。", "iban"),
    ("«+33 (0)1 23 45 67 89» et «+44 (0)20 7946 0958»", "phone"),
    ("«0049 30 901820», «00 33 1 23 45 67 89»", "phone"),
    ("«01 23 45 67 89» est mon numéro", "phone"),
    ("+7: «8 (495) 123-45-67»; «+7 (495) 123-45-67»", "phone"),
    ("電話番号は«03-1234-5678»です", "phone"),
    ("手机«13812345678»，电话：«010-12345678»", "phone"),
    ("휴대폰 «010-1234-5678»입니다", "phone"),
    ("«(11) 91234-5678», «(02) 9876 5432»", "phone"),
    ("«+34 912 345 678» 2024", "phone"),
    ("DNS服务器是«8.8.8.8»，сервер «1.1.1.1»", "ip"),
]
# Behind a word for a telephone a number of any grouping is one.
TELEPHONES = (
    "Tél. : |Téléphone : |Teléfono: |Tfno. |Móvil: |Telefone: |Telemóvel: |Telefono: |Cellulare |"
    "Telefoon: |Telefonnummer |Tlf. |Puhelin: |Puh. |Telefonszám: |Komórka: |Τηλ.: |Τηλέφωνο: |"
    "тел. |Тел.: |телефон: |по телефону |Моб. |Cep: |Telepon: |Điện thoại: |"
    "هاتف: |رقم الهاتف: |تلفن: |"
    "טלפון: |נייד: |फ़ोन: |ফোন: |தொலைபேசி: |โทร. |โทรศัพท์ |ទូរស័ព្ទ |ໂທ |ဖုန်း |电话：|電話: |手机号码: |"
    "电话是|전화: |연락처 |☎ |\U0001f4de "
)

LOOK_ALIKES = [
    "@decorator\ndef f(): ...",
    "@functools.wraps(f)",
    "git@github.com:owner/name.git and ssh://git@host.example.org/x",
    "https://user:secret@db.example.com:5432/name",
    "postgres://reader@db.example.com/name",
    "icon@2x.png, lodash@4.17.21, left-pad@1.0.tgz",
    "y = a@b.T + w@x.reshape(2, 3) and p@q.dot(r)",
    "twitter.com/@name and @name.surname",
    "<142480216486.20800.16526388040877946887@nightshade.example.com>",
    "version 1.2.3.4 and v64.0.3.9",
    "needs numpy>=1.26.4.100, Chrome/58.0.3.110, release 99.2.3.4",
    "4.1.2.3 The scope of rules",
    "see section 64.1.2.3, §70.1.2.3 and Table 80.2.3.1",
    "127.0.0.1 localhost 0.0.0.0 10.1.2.3 192.168.0.1 172.16.5.4 255.255.255.0 224.0.0.1",
    "192.0.2.77 and 2001:db8::1 are for documentation; fe80::1 ::1 are not public",
    "OID 1.3.6.1.4.1.311 and 1.3.6.1",
    "300.1.2.3 999.999.999.999 01.02.03.04",
    "a[::2], a[1::2], x[2000::3], b[2000:3000:2], 12:30:45, 00:1b:44:11:3a:b7",
    "std::cafe::bead and 2024:01:02 and dead:beef",
    "'1.0.0.127.in-addr.arpa'",
    "2024-01-15, 15.01.2024, 01/15/2024, 2024-01-15 10:30:00.123456",
    "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, ISBN 9780306406157",
    "d41d8cd98f00b204e9800998ecf8427e 1234567890123456789012345",
    "$1,234,567.89 and 1 234 567,89 and 12.345.678",
    "[+1.23456789 -2.34567891 +3.14159265e+00]",
    "array([[ 100, 200, 3000], [212, 555, 1234]])",
    "0.2125550147 3.14159265358979 1e+123456789 +0100 +05:30",
    "212 555 1234 apples",
    "ring 1234567, call 1234567 times; phone: 2024-01-15; phone 3.1415926",
    "id 555-55-5555 and 2125550147 and 000-000-0000",
    "+1 100 200 300 +1 2 3 4 5 6 7 8 9",
    "4111 1111 1111 1112",  # the checksum is wrong
    "1234567812345670",  # the checksum is right, and no issuer has it
    "9007199254740992 4503599627370496 9223372036854775807 18446744073709551615",
    "0.4111111111111111 and x4111111111111111",
    "4111 1111 11111111",
    ">>> np.arange(10)[2:8:2]\narray([2, 4, 6])",
    "pages 1100-1200, 020 7946, 0001 0002 0003",
    "1609459200000 1609459200",
    "DE88 3704 0044 0532 0130 00 and XX89370400440532013000",  # checksum; country
    "Bestell-Nr. 030 / 1234567, Az. 030/1234567, Aktenzeichen 0171/2345678",
    "Order No. 212-555-0123, заказ № 8-495-123-45-67, 订单号 010-12345678, pedido 01 23 45 67 89",
    "drawn were 03 12 25 33 41, and 06 07 08 09 10; ff 00 30 da 03 46 28 08 06",
    "+15 000 000 000 tonnes; 0054 0045 004C; 0034 5678 9012; 0012 345 678 901",
    "Versão 64.0.3.9, версия 58.0.3.110, 版本 58.0.3.110, 버전 64.0.3.9, إصدار 64.0.3.9",
    "Kapitel 4.1.2.3 und Abschnitt 64.1.2.3, раздел 64.1.2.3, 第64.1.2.3节, sección 70.1.2.3",
    "the DHCP server\n\n4.5.1.1. Starting it",
    "an SSH server, see Afsnit 9.2.1.4, Odjeljak 6.7.3.1, 6.1.2.2절 and Bagian 6.2.4.3",
    "from -922337203685477 to +922337203685477",
    "отель 1234567, хотел 1234567; Hotel. 1234567; el cap 1234567",
]


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and where they stood."""
    spans, plain = [], ""
    for number, part in enumerate(text.replace("»", "«").split("«")):
        if number % 2:
            spans.append((len(plain), len(plain) + len(part)))
        plain += part
    return plain, spans


def judge(text: str, **section: Any) -> Any:
    return Personal(PersonalRule(**section))(text, "document")


def test_every_planted_datum_and_no_look_alike_is_found() -> None:
    """Would catch a datum missed or cut short, or a version, date, slice or hash redacted."""
    print()
    found_right, found, planted = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), {}
    wrong = []
    for text, kind in PLANTED + [(text, "") for text in LOOK_ALIKES]:
        plain, spans = marked(text)
        expected = {(kind, span) for span in spans}
        got = set(personal_data(plain))
        for name in KINDS:
            found[name] += sum(part == name for part, _ in got)
            found_right[name] += sum(part == name for part, _ in got & expected)
            planted[name] = planted.get(name, 0) + sum(part == name for part, _ in expected)
        wrong += [(plain, kind, plain[slice(*span)]) for kind, span in got ^ expected]
    for name in KINDS:
        print(
            f"{name}: {planted[name]} planted, precision {found_right[name] / found[name]:.3f},"
            f" recall {found_right[name] / planted[name]:.3f}"
        )
    assert not wrong
    assert all(planted[name] >= 7 for name in KINDS)


def test_documentation_keeps_its_versions_and_numbers() -> None:
    """Would catch a pattern that takes technical text for personal data.

    By inspection of CPython 3.11 and numpy 2.4: 43 addresses of authors and examples and 2 of 3 IP
    addresses are what they seem (the third is a version in a tuple), no phone and no card is there.
    The limits leave room for other versions, not for a pattern that matches numbers.
    """
    docstrings = read_docstrings(source_files(["stdlib", "numpy"]))
    counts = dict.fromkeys(KINDS, 0)
    characters = 0
    for docstring in docstrings:
        characters += len(docstring.text)
        for kind, _ in personal_data(docstring.text):
            counts[kind] += 1
    print("\nfound in", characters, "characters:", counts)
    assert characters > 2_000_000
    assert counts["card"] == counts["phone"] == 0
    assert counts["ip"] <= 10
    assert 20 <= counts["email"] <= 100


def test_redaction_names_the_kind_and_the_finding_holds_no_datum() -> None:
    """Would catch personal data in the audit, or a finding for each datum instead of a kind."""
    text = "Mail a@b.com or c@d.org, or call (212) 555-0147."
    outcome = judge(text)
    assert outcome.text == "Mail [email] or [email], or call [phone]."
    assert [(f.reason, f.value) for f in outcome.findings] == [("email", 2), ("phone", 1)]
    assert "212" not in repr(outcome.findings)


def test_each_kind_has_its_own_treatment() -> None:
    """Would catch one treatment applied to all kinds."""
    text = "a@b.com, (212) 555-0147"
    assert judge(text, email="keep", phone="keep").text == text
    assert judge(text, email="keep").text == "a@b.com, [phone]"
    outcome = judge(text, email="drop")
    assert outcome.text is None
    assert [(f.reason, f.value) for f in outcome.findings] == [("email", 1)]
    assert judge("nothing here", email="drop").text == "nothing here"


def test_too_many_finds_drop_the_document() -> None:
    """Would catch a limit that is off by one, or that forgets the kinds that are kept."""
    text = "a@b.com, c@d.com, (212) 555-0147"
    assert judge(text, drop_above=3).text is not None
    outcome = judge(text, drop_above=2, email="keep", phone="keep")
    assert outcome.text is None
    assert [(f.reason, f.value, f.threshold) for f in outcome.findings] == [("personal data", 3, 2)]


@pytest.mark.parametrize("text", ["", "plain words", "[email] [phone] 212 555 0147"])
def test_text_without_personal_data_is_untouched(text: str) -> None:
    """Would catch a placeholder that makes the number behind it a telephone number."""
    outcome = judge(text)
    assert (outcome.text, outcome.findings) == (text, ())


FRAGMENTS = [marked(text)[0] for text, _ in PLANTED] + LOOK_ALIKES
FRAGMENTS += [text.replace(" ", "\u00a0").replace("-", "\u2013") for text in FRAGMENTS]
TYPOGRAPHIC = list("\u00a0\u2013\u200b\u00ad\uff20\uff0e\u3002\uff11\u30fc")
PIECES = [
    *FRAGMENTS,
    *TYPOGRAPHIC,
    "[phone]",
    "phone ",
    "host ",
    "version ",
    " ",
    "\n",
    "@",
    "+",
    "-",
    ".",
    "1",
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES) | st.text(string.printable, max_size=8), max_size=12))
def test_redacting_twice_is_redacting_once(parts: list[str]) -> None:
    """Would catch a placeholder that completes another datum, or text lost between two spans."""
    once = judge("".join(parts)).text
    assert judge(once).text == once


def test_the_rule_travels_to_other_processes() -> None:
    """Would catch state that cannot be pickled."""
    rule = pickle.loads(pickle.dumps(Personal(PersonalRule())))
    assert rule("a@b.com", "x").text == "[email]"


def test_long_runs_take_linear_time() -> None:
    """Would catch a pattern that backtracks: these would take minutes, not milliseconds."""
    for piece in (
        "a",
        "a.",
        "1",
        "1 ",
        "1.",
        "2000:",
        "+1",
        "(2",
        "a@",
        "4111 ",
        "1\u00a0",
        "1\u200b",
        "12\u00ad",
        "@\u2013",
    ):
        text = piece * 100_000
        assert judge(text).text is not None


SPACES = "\u00a0\u1680\u2002\u2003\u2005\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
INVISIBLE = (
    "\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202c\u2060\u2066\u2069\u3164\ufe0f\ufeff"
)
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
FORMS: dict[str, Callable[[str], str]] = {
    **{f"space {ord(c):04x}": lambda datum, c=c: datum.replace(" ", c) for c in SPACES},
    **{f"dash {ord(c):04x}": lambda datum, c=c: datum.replace("-", c) for c in HYPHENS},
    **{f"invisible {ord(c):04x}": lambda datum, c=c: c.join(datum) for c in INVISIBLE},
    "soft hyphens for hyphens": lambda datum: re.sub(r"(?<=\d)-(?=\d)", "\u00ad", datum),
    "two spaces": lambda datum: datum.replace(" ", "  "),
    "no-break and space": lambda datum: datum.replace(" ", "\u00a0 "),
    "full width": lambda datum: datum.translate(WIDE),
    "full width, ideographic space": lambda datum: datum.translate(WIDE).replace(" ", "\u3000"),
    "full-width at and dots": lambda datum: datum.replace("@", "\uff20").replace(".", "\uff0e"),
    "Arabic digits": lambda datum: datum.translate({48 + n: 0x660 + n for n in range(10)}),
    "mathematical digits": lambda datum: datum.translate({48 + n: 0x1D7CE + n for n in range(10)}),
    "all at once": lambda datum: "\u200b".join(
        datum.replace("-", "\u2013").replace(" ", "\u202f").replace("@", "\uff20")
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_typography_hides_no_datum_and_makes_none(form: str) -> None:
    """Would catch a number hidden by no-break spaces, dashes, wide digits or invisible characters;
    text around it that is lost or folded; and a look-alike that such characters make a datum.
    """
    changed = FORMS[form]
    for text, kind in PLANTED:
        parts = text.replace("»", "«").split("«")
        parts[1::2] = [changed(datum) for datum in parts[1::2]]
        expected = f"[{kind}]".join(parts[::2])
        assert judge("“" + "".join(parts) + "”").text == "“" + expected + "”", text
    for text in LOOK_ALIKES:
        if changed(text) != text:
            assert judge(changed(text)).text == changed(text)


def test_a_word_for_a_telephone_is_known_in_many_languages() -> None:
    """Would catch numbers in a country's own grouping kept for want of the word before them, and a
    word found within another.
    """
    number = "91 234 56 78"
    for word in TELEPHONES.split("|"):
        assert judge(f"({word}{number})").text == f"({word}[phone])", word
        wide = f"{word}{number.replace(' ', chr(0x202F))}".replace(": ", "\uff1a")
        assert judge(wide).text == wide[: -len(number)] + "[phone]", word
    for text in (number, f"отель: {number}", f"xtlf. {number}", f"тел {number}кг"):
        assert judge(text).text == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Write to anna@example.org–she answers", "Write to [email]–she answers"),
        ("写信给anna@example.org。Thanks", "写信给[email]。Thanks"),
        ("写信给anna＠example。org。", "写信给[email]。"),
        ("Contact—anna＠example．org now", "Contact—[email] now"),
        ("TEL：０３ー１２３４ー５６７８", "TEL：[phone]"),
        ("\ufeffanna@example.org\u200b and\u00a0so on", "\ufeff[email]\u200b and\u00a0so on"),
        ("\u202a+49 30\u2009901820\u202c!", "\u202a[phone]\u202c!"),
        (
            "Write to anna＠example.org or ring ０３０ １２３４５６７.",
            "Write to [email] or ring [phone].",
        ),
        ("anna\u200b@example.org or anna@exam\u00adple.org today", "[email] or [email] today"),
        (
            "card 4111\u202f1111\u202f1111\u202f1111 or +49\u202f30\u202f901820.",
            "card [card] or [phone].",
        ),
        ("Ring 030\u00a01234567 or dial\u202f(0221) 123456.", "Ring [phone] or dial\u202f[phone]."),
        ("—an\u200bna@example.org—", "—[email]—"),
        ("(020 7946 0958), (01632) 960001), (0161 496 0000)", "([phone]), [phone]), ([phone])"),
        ("<b>93.184.216.34</b>", "<b>[ip]</b>"),
        ("我的2606:4700:4700::1111。 यह 0049 30 901820है", "我的[ip]。 यह [phone]है"),
        ("soft\u00adly, 1939–1945, pp. 1100–1200", "soft\u00adly, 1939–1945, pp. 1100–1200"),
    ],
)
def test_the_text_around_a_datum_stays_as_it_was(text: str, redacted: str) -> None:
    """Would catch edges off by the characters that the plain form leaves out, a sentence that
    begins behind an address taken for its domain, and years taken for a telephone.
    """
    assert judge(text).text == redacted


@pytest.mark.parametrize("word", listed("reference"))
def test_every_listed_word_before_a_number_makes_it_no_telephone(word: str) -> None:
    """Would catch an entry that is cut off before it is looked up, as "番号" and " no" were."""
    for number in ("212-555-1234", "030-1234-5678"):
        assert list(phone_numbers(f"{word} {number}")) == []
        assert list(phone_numbers(f"{word.capitalize()}: {number}")) == []


def test_a_number_behind_another_word_stays_a_telephone() -> None:
    """Negative control of the list above."""
    assert list(phone_numbers("border 212-555-1234")) == [(7, 19)]
