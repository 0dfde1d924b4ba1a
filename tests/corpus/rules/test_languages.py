"""Quality beyond English: good prose stays and bad prose goes, by limits that a table derives."""
# ruff: noqa: E501, RUF001 (text in many scripts, with their punctuation)

import runpy
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.rules.prose_by_language import PROSE_BY_LANGUAGE
from tests.corpus.rules.texts import PROSE
from trainer.corpus.rules.derive_languages import compared, declaration, has_spaces, stop_words
from trainer.corpus.rules.language import find_language, written_language
from trainer.corpus.rules.language_sources import JUSTEXT, SPACY, TEXTS
from trainer.corpus.rules.languages import (
    FACTORS,
    LanguageProfile,
    OtherLanguage,
    profiles,
    prose_language,
)
from trainer.corpus.rules.quality import quality_rules
from trainer.corpus.rules.rule import Finding
from trainer.recipe.curation import (
    C4Quality,
    FineWebQuality,
    GopherQuality,
    QualityRules,
)

RULES = quality_rules(QualityRules())


def judge(text: str, code: str) -> Finding | None:
    """Why the default rules drop a text in a language; None where all let it pass unchanged."""
    for rule in RULES:
        outcome = rule.in_language(text, code)
        if outcome.text is None:
            return outcome.findings[0]
        assert outcome.text == text, rule.name
    return None


@pytest.mark.parametrize("code", PROSE_BY_LANGUAGE)
def test_good_prose_stays_by_its_own_language_and_falls_by_english(code: str) -> None:
    """Would catch a language judged by English words, marks or limits."""
    text = PROSE_BY_LANGUAGE[code]
    assert find_language(text)[0] == code
    assert judge(text, code) is None
    assert judge(text, "en") is not None, "negative control"


def parts(text: str, code: str) -> list[str]:
    """The words of a text, or runs of three letters where it has no spaces; no marks."""
    language = prose_language(code)
    words = language.real_words(text)
    if language.profile.spaces:
        return words
    return ["".join(words[at : at + 3]) for at in range(0, len(words), 3)]


def keywords(text: str, code: str) -> str:
    """Content words alone, as a page is stuffed with them."""
    stops = prose_language(code).profile.stop_words
    content = [part for part in parts(text, code) if part.lower() not in stops]
    if not prose_language(code).profile.spaces:
        content = [part for part in content if not any(stop in part for stop in stops)]
    return " ".join(content * 4 if len(content) < 60 else content)


FAULTS: dict[str, Callable[[str, str], str]] = {
    "a menu": lambda text, code: "\n".join(parts(text, code)),
    "a copied sentence": lambda text, code: (text.split("\n")[1] + "\n") * 6,
    "keywords": keywords,
    "a fragment": lambda text, code: " ".join(parts(text, code)[:12]),
    "numbers": lambda text, code: " 12 . 7 - ".join(parts(text, code)),
    "hash tags": lambda text, code: "#".join(parts(text, code)),
    "a teaser": lambda text, code: "…\n".join(parts(text, code)) + "…",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("code", PROSE_BY_LANGUAGE)
def test_bad_prose_falls_in_every_language(code: str, fault: str) -> None:
    """Would catch limits so wide, or so many rules left out, that what is no prose passes."""
    assert judge(FAULTS[fault](PROSE_BY_LANGUAGE[code], code), code) is not None


LISTS = {
    "de": "Herrenschuhe Damenschuhe Kinderschuhe Stiefel Sandalen Hausschuhe Turnschuhe Socken"
    " Gummistiefel Gürtel Handschuhe Mützen Schals Jacken Mäntel Hosen Röcke Kleider Blusen Hemden"
    " Pullover Bademode Schmuck Uhren Taschen Rucksäcke Koffer Geldbörsen Regenschirme Parfüm"
    " Kosmetik Haarpflege Zahnpflege Spielzeug Bücher Möbel Lampen Teppiche Vorhänge Handtücher"
    " Geschirr Besteck Töpfe Pfannen Messer Gläser Tassen Kannen Vasen Kerzen Bilder Rahmen.",
    "zh": "手机 电脑 相机 耳机 音箱 键盘 鼠标 屏幕 打印机 路由器 充电器 数据线 平板 手表 冰箱 洗衣机 空调 电视 微波炉"
    " 电饭锅 吸尘器 热水器 风扇 台灯 沙发 床垫 衣柜 餐桌 椅子 窗帘 地毯 毛巾 牙刷 牙膏 洗发水 沐浴露 面霜 口红 香水"
    " 眼镜 帽子 围巾 手套 皮带 钱包 背包 雨伞 运动鞋 拖鞋 袜子 裤子 衬衫 外套 睡衣 内衣 泳衣。",
}


@pytest.mark.parametrize("code", LISTS)
def test_a_list_of_goods_has_no_stop_words(code: str) -> None:
    """Would catch stop words so many, or so short, that any text of the language has two."""
    finding = judge(LISTS[code], code)
    assert finding is not None and finding.reason == "too few stop words"


@pytest.mark.parametrize(
    ("code", "text", "sentences"),
    [
        ("zh", "它来了。你好！真的吗？“是的。”他说。", 5),
        ("zh", "真的吗?我不信!他说3.5元.好吧", 4),
        ("ja", "「はい。」と言った。雨だ", 3),
        ("ar", "هل جاء؟ نعم. لا!", 3),
        ("ur", "وہ آیا۔ کیا وہ آیا؟", 2),
        ("hi", "यह है। वह है।", 2),
        ("am", "ነው። ነው።", 2),
        ("my", "ဖြစ်သည်။ ဖြစ်သည်။", 2),
        ("hy", "Այո։ Ոչ։", 2),
        ("el", "Ναι. Όχι; Ίσως!", 2),
        ("de", "Er lief 3.5 km. „Gut!“ Sie kam", 3),
        ("fr", "Quoi ? Rien !", 2),
        ("th", "เขามา เธอไป", 1),
    ],
)
def test_sentences_end_at_the_marks_of_their_script(code: str, text: str, sentences: int) -> None:
    """Would catch marks other than ASCII's overlooked, and a decimal point taken for one."""
    assert prose_language(code).sentence_count(text) == sentences


@pytest.mark.parametrize(
    "line", ["„Gut.“", "他说：“好。”", "「はい。」", "« Oui. »", "نعم؟", "कब?)"]
)
def test_a_line_ends_in_punctuation_within_quotes_too(line: str) -> None:
    """Would catch dialogue taken for a list; English is judged as datatrove judges it."""
    assert prose_language("de").ends_sentence(line)
    assert not prose_language("de").ends_sentence(line + " und")


def test_words_are_those_of_the_script() -> None:
    """Would catch Chinese taken for one word, and Hindi or Persian cut inside a word."""
    chinese, hindi = prose_language("zh"), prose_language("hi")
    assert chinese.real_words("它来了2024年，AI") == ["它", "来", "了", "2024", "年", "AI"]
    assert chinese.spaced_words("你好，AI 2024") == ["你", "好", "，AI", "2024"]
    assert hindi.real_words("हिन्दी में।") == ["हिन्दी", "में"]
    khmer = prose_language("km")
    assert khmer.spaced_words("ខ្មែរ\u200bខ្មែរ") == ["ខ្", "មែ", "រ"] * 2
    assert prose_language("de").words("Schiff\u00adfahrt\u200b, ja") == [
        "Schiff\u00adfahrt",
        ",",
        "ja",
    ]
    assert prose_language("fa").real_words("می‌خواهم") == ["می‌خواهم"]
    assert len(chinese.n_grams("天地玄黄宇宙洪荒", 2)[0]) == chinese.length(2) == 3


def test_limits_are_english_ones_times_what_a_translation_has() -> None:
    """Would catch a factor applied the wrong way round, or to what no language changes."""
    factors = dict(words=0.5, characters=2.0, word_length=1.5, punctuated=0.5, sentences=0.8)
    language = OtherLanguage(LanguageProfile("x", ("text",), factors))
    quality = GopherQuality()
    assert language.limit(quality, "minimum_words") == 25
    assert language.limit(quality, "maximum_word_length") == 15
    assert language.limit(quality, "minimum_word_length") == 3 * 1.5**0.5, "narrowed by half"
    assert language.limit(quality, "symbols_a_word") == 0.2
    assert language.limit(quality, "bullet_lines") == quality.bullet_lines
    assert language.limit(quality, "stop_words") is None, "there is no list"
    assert language.limit(GopherQuality(minimum_words=0), "minimum_words") == 0
    assert language.limit(FineWebQuality(), "short_line_characters") == 60
    assert language.limit(FineWebQuality(), "punctuated_lines") == 0.06
    assert language.limit(C4Quality(), "minimum_sentences") == 4
    assert prose_language("en").limit(quality, "minimum_words") == quality.minimum_words


def test_what_nothing_is_known_of_is_left_out_and_the_rest_is_not() -> None:
    """Would catch English limits on a language without text and list, or no rule at all for it."""
    unknown = "zz"
    left_out = {rule.name: rule.left_out(unknown) for rule in RULES}
    assert left_out["gopher repetition"] == ()
    assert {"too few words", "long words", "too few stop words"} <= {*left_out["gopher quality"]}
    assert left_out["c4"] == ("lines with few words removed", "too few sentences")
    assert {*left_out["fineweb"]} == {"too few punctuated lines", "short lines", "line breaks"}
    assert all(rule.left_out("en") == () for rule in RULES)
    text = PROSE_BY_LANGUAGE["de"]
    assert judge(text, unknown) is None
    finding = judge("\n".join([text.split("\n")[0]] * 5), unknown)
    assert finding is not None and finding.reason == "duplicate lines"
    (thai,) = (rule.left_out("th") for rule in RULES if rule.name == "c4")
    assert thai == ("too few sentences",), "Thai has no mark that ends a sentence"


def test_a_lone_surrogate_falls_in_any_language() -> None:
    """Would catch a text on its way to the tokenizer that no file can hold."""
    finding = judge("Ein Wort \ud800 und das andere. " * 3, "de")
    assert finding is not None and finding.reason == "not Unicode"


@given(
    st.sampled_from(["de", "zh", "th", "ar", "my", "zz"]),
    st.lists(
        st.sampled_from([*"的ก ិ။。.\n#…\u200b\u00ad{-", *PROSE_BY_LANGUAGE["de"].split()[:9]])
        | st.text(max_size=4),
        max_size=40,
    ).map(" ".join),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_judged_in_any_language(code: str, text: str) -> None:
    """Would catch a division by a number of words, lines or sentences that is zero."""
    for rule in RULES:
        outcome = rule.in_language(text, code)
        assert (outcome.text is None) <= (len(outcome.findings) == 1)
        assert outcome.text is None or (outcome.text != text) == bool(outcome.findings)


def test_an_unclear_language_is_judged_as_english() -> None:
    """Would catch noise that passes, because no rule is known for the language it looks like."""
    assert written_language("12 34 # 56") == "en"
    assert written_language(PROSE) == "en"
    assert written_language(PROSE_BY_LANGUAGE["fi"]) == "fi"


def test_the_table_has_stop_words_of_installed_lists_in_many_languages() -> None:
    """Would catch a table written from other lists than it says, or cut short."""
    with_both = [one for one in profiles().values() if one.stop_words and one.factors]
    assert len(with_both) >= 80
    for profile in profiles().values():
        known: set[str] = set()
        for name in JUSTEXT.get(profile.code, ()):
            path = files("justext") / "stoplists" / f"{name}.txt"
            known |= {*path.read_text(encoding="utf-8").lower().split()}
        if profile.code in SPACY:
            path = files("spacy") / "lang" / SPACY[profile.code] / "stop_words.py"
            known |= {word.lower() for word in runpy.run_path(str(path))["STOP_WORDS"]}
        assert known.issuperset(profile.stop_words), profile.code
        assert profile.texts == TEXTS.get(profile.code, ())
        assert profile.factors is None or {*profile.factors} == {*FACTORS}
    assert not profiles()["zh"].spaces and profiles()["ko"].spaces


PAGE = """<!doctype html><html><head><title>x</title></head><body><h1>No</h1><header><h2>No</h2>
<p>{0}</p></header><article data-number="1"><h2>No</h2><p>{1}</p><ol><li><p>{2}</p></li></ol>
</article></body></html>"""


def test_the_table_is_derived_by_what_a_translation_measures(tmp_path: Path) -> None:
    """Would catch headings counted, articles that one text lacks compared, and bytes misread."""
    (tmp_path / "declaration").mkdir()
    texts = {
        "one": ("Four words are here.", "Two words.", "and then"),
        "two": ("Größe。", "大小", "X."),
    }
    for name, parts in texts.items():
        path = tmp_path / "declaration" / f"{name}.html"
        path.write_text(PAGE.format(*parts), encoding="utf-8")
    english, other = (declaration(tmp_path, name) for name in texts)
    assert english == {0: ["Four words are here."], 1: ["Two words.", "and then"]}
    assert compared(other, english) == {
        "words": 4 / 8,
        "characters": 10 / 38,
        "word_length": (8 / 4) / (31 / 8),
        "punctuated": 1.0,
        "sentences": 1.0,
    }
    del other[0]
    assert compared(other, english)["words"] == 3 / 4
    assert has_spaces("Größe 大") and not has_spaces("大小中 ab")


def test_stop_words_are_as_many_as_passages_need() -> None:
    """Would catch words of no use: those of the Wikipedia's own matters, or too few for prose."""
    text = "der Hund und die Katze sehen das Meer, und sie gehen. " * 40
    profile = LanguageProfile("de", ("text",), dict.fromkeys(FACTORS, 1.0))
    words = stop_words(profile, text)
    assert words[:4] == ("der", "und", "die", "das") and "von" not in words
    assert stop_words(profile, "Xylophon Quarz Zebra Yacht Qualle " * 60) == ()
