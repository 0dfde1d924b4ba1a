"""Answers that follow an instruction of each kind, and answers that all but do."""

from typing import Any

Answers = tuple[dict[str, Any], list[str], list[str]]
"""An instruction's arguments, answers that follow it, and answers that do not."""

ANSWERS: dict[str, Answers] = {
    "words at least": (
        {"least": 5},
        ["one two three four five", "It's a well-known fact, isn't it?", "日 本 語 の 文"],
        ["one two three four", "well-known facts aren't many", "- - - - -", "1,000 cats at 10:30"],
    ),
    "words at most": (
        {"most": 3},
        ["one two three", "Well-known facts, aren't", "a - b - c", "3.5 kg re\u0301al"],
        ["one two three four", "...", "!!! ???"],
    ),
    "words between": ({"least": 2, "most": 3}, ["one two", "one, two; three."], ["one", "a b c d"]),
    "sentences": (
        {"number": 2},
        [
            "It rains. It pours!",
            "Dr. Hale paid 3.50 for it. Why?",
            'She said "Go!" Then she left.',
            "He likes e.g. figs and pears. They are sweet",
            "1. It is red. It is round.",
            "Really?! Yes...",
            '"Is it far?" she asked. It was.',
            "Hale Inc. sells figs, pears, etc. It opened at 5 p.m. on a Monday.",
            "It is in the U.S. The U.S. Navy is there.",
            "Cats are soft.They purr.",
            "Cats sleep... a lot. They play\u2026 now and then",
            "He came on Dec. 3 with Vol. 2. It snowed on Mt. Olm.",
            "Wait... It rains.",
            "It rains.\r\nIt pours.",
        ],
        ["It rains.", "It rains. It pours. It stops.", "It rains, it pours", "St. Paul sat there."],
    ),
    "paragraphs": (
        {"number": 2},
        ["One.\n\nTwo.", "One.\r\n\r\nTwo.\r\n", "\nOne,\nstill one.\n \n\nTwo.\n"],
        ["One.\nTwo.", "One.\n\nTwo.\n\nThree.", "One."],
    ),
    "lines": ({"number": 2}, ["a\nb", "\na\n\nb\n"], ["a", "a\nb\nc"]),
    "bullets": (
        {"number": 2},
        ["- one\n- two", "Here:\n* one\n  * two\n", "\u2022 one\n\u2022 two"],
        ["-one\n-two", "- one", "- a\n- b\n- c", "**one**\n**two**", "1. a\n2. b", "---\n---"],
    ),
    "numbered list": (
        {"number": 3},
        ["1. a\n2. b\n3. c", "So:\n1) a\n\n2) b\n3) c", "1. a\nmore of it\n2. b\n3. c"],
        ["1. a\n2. b", "1. a\n3. b\n2. c", "1. a\n2. b\n3. c\n4. d", "a\nb\nc", "1.a\n2.b\n3.c"],
    ),
    "word n times": (
        {"word": "warm", "number": 2},
        ["Warm, warm and soft.", "warm WARM warm", "**warm** and _warm_"],
        ["warm warmth warmer", "warm", "lukewarm warm"],
    ),
    "letter n times": ({"letter": "z", "number": 2}, ["Zoo and jazz", "zigzag"], ["zoo", "ssss"]),
    "short words": (
        {"letters": 4},
        ["It is a dog.", "Don't go far", "a two-year plan", "in 100000 days"],
        ["It was a horse", "up-to-dates", "...", "cre\u0301me"],
    ),
    "no word twice": (
        {"least": 3},
        ["the sun shines", "one, two, three"],
        ["the sun and The moon", "one two", "so so so"],
    ),
    "bold parts": (
        {"number": 2},
        ["**One** and **two words**.", "**a** **b** **c**", "**a *b* c** and **d**"],
        ["**One** and *two*", "** one ** and **two**", "**one", "**a\nb** **c**"],
    ),
    "placeholders": (
        {"number": 2},
        ["Dear [name], come on [date].", "[a] [b] [c]"],
        ["Dear [name], come.", "[] []", "[site](https://example.org) and [name]", "(name) (date)"],
    ),
    "begins with": (
        {"start": "In short,"},
        ["In short, it ticks.", "\n In short, yes"],
        ["in short,"],
    ),
    "ends with": (
        {"end": "Have a nice day!"},
        ["Walk. Have a nice day!", "Have a nice day!\n"],
        ["Have a nice day! Bye.", "have a nice day!", '"Have a nice day!"', "ShHave a nice day!"],
    ),
    "contains words": (
        {"words": ["fox", "snow"]},
        ["A FOX in the snow.", "snow, fox"],
        ["A fox.", "foxes in the snow", "snowfall and a fox"],
    ),
    "omits words": (
        {"words": ["sun", "hot"]},
        ["A sunny photo.", "It is warm."],
        ["The Sun is up.", "hot", "...", "It is _hot_ there."],
    ),
    "omits a letter": ({"letter": "e"}, ["a cat, a dog", "Ox"], ["a hen", "Emu", "123"]),
    "no commas": ({}, ["Red and blue; green."], ["red, blue", "\u8d64\u3001\u9752", "..."]),
    "no digits": (
        {},
        ["Eighteen seventy-six."],
        ["1876", "In \u0661 way", "...", "three\u00bc", "a\u00b2"],
    ),
    "repeats the request": (
        {"request": "Why is grass green?"},
        ["Why is grass green? It takes in light.", "Why is  grass green?\n\nBecause."],
        ["Why is grass green?", "why is grass green? Because.", "Grass is green because of it."],
    ),
    "copies a text": (
        {"wanted": "A - b - C"},
        ["A - b - C", " A - b - C\n"],
        ["A - b - C.", "a - b - c", '"A - b - C"', "Sure: A - b - C"],
    ),
    "one word": (
        {},
        ["Blue", "blue.", "well-known", "Re\u0301al"],
        ["It is blue", "...", "blue sky", "- blue"],
    ),
    "yes or no": (
        {"options": ["yes", "no"]},
        ["Yes", "no.", " YES\n", "Yes!"],
        ["Yes, it is.", "yes or no", "y", "Yes!?"],
    ),
    "one of several": (
        {"options": ["light", "dark"]},
        ["light", "Dark."],
        ["It is light", "lights", "light dark"],
    ),
    "a number only": (
        {},
        ["12", "-3.5", "1,945", "1945\n"],
        ["12 legs", "twelve", "= 12", "19,45", "1,2,3", "12."],
    ),
    "sorted list": (
        {"least": 3},
        ["apple\nfig\npear", "Apple\n\nbanana\nCherry\ndate", "Berlin\n\u00c9vry\nParis"],
        [
            "apple\npear\nfig",
            "apple\nfig",
            "apple\nfig\nfig",
            "Here:\napple\nfig",
            "1. a\n2. b\n3. c",
        ],
    ),
    "reversed order": (
        {"words": ["day", "follows", "night"]},
        ["day follows night", "Day, follows,\nnight."],
        ["night follows day", "day follows", "So: day follows night"],
    ),
    "language": (
        {"code": "de"},
        ["Das Haus ist alt und steht am Wald, neben einer Wiese."],
        [
            "The house is old and stands near the forest.",
            "Haus",
            "123 456 789",
            "la la la la la la la",
            "das Haus, das Haus, das Haus",
        ],
    ),
    "same start of lines": (
        {"start": "I like", "number": 2},
        ["I like tea.\nI like rain.", "I like a\n\nI like b"],
        [
            "I like tea.",
            "I like a\nI like b\nI like c",
            "I like tea.\nAnd rain.",
            "i like tea\ni like rain",
            "I like tea.\nI likened it.",
        ],
    ),
    "postscript": (
        {},
        [
            "Come at noon.\nP.S. Bring cake.",
            "Hi.\n\nP.S. A.\n\nP.S. B.",
            "Dear Al,\n\nThanks.\n\nP. S.: See you\nsoon",
        ],
        ["P.S. Bring cake.", "Come.\nP.S.", "Come. P.S. Bring it.", "Hi.\nP.S. A.\n\nYours, Al"],
    ),
    "all capitals": ({}, ["A STORM, 3 DAYS", "STRASSE"], ["A STORm", "123", "\u00df"]),
    "all lower case": ({}, ["a lake, 3 miles", "caf\u00e9"], ["A lake", "123"]),
    "title in angle brackets": (
        {},
        ["<Spring>\nIt is here.", "\n< The Long Day >\n\nIt ended."],
        ["<Spring>", "Spring\nIt is here.", "<Spring> It is here.", "<<Spring>>\nNow.", "<>\nNow."],
    ),
    "in quotation marks": (
        {},
        ['"He bakes."', "\u201cHe bakes.\u201d", "\"He 'bakes'.\""],
        ['He "bakes".', '"He bakes', '"Hi," he said, "you"', '""', '"!"', "'He bakes.'"],
    ),
    "two answers": (
        {"separator": "---", "number": 2},
        ["Tom\n---\nKit", "Tom\n\n --- \n\nKit"],
        ["Tom --- Kit", "Tom\n---\nTom", "---\nTom", "a\n---\nb\n---\nc", "Tom\n---"],
    ),
    "JSON object": (
        {"keys": ["name", "age"]},
        ['{"name": "Al", "age": 3}', '\n{"age": null,\n "name": []}'],
        [
            '{"name": "Al"}',
            '{"name": "Al", "age": 3, "x": 1}',
            "{'name': 'Al', 'age': 3}",
            '```json\n{"name": "Al", "age": 3}\n```',
            '["name", "age"]',
            '{"name": "Al", "name": "Bo", "age": 3}',
            '{"name": "Al", "age": NaN}',
            "[" * 100_000,
        ],
    ),
    "JSON list": (
        {"number": 2},
        ['["a", "b"]', ' [\n"a",\n"b"]'],
        ['["a"]', "[1, 2]", '["a", ""]', '{"a": "b"}', "a, b", '["a", "b",]', '["a", "A"]'],
    ),
    "CSV": (
        {"columns": 2, "rows": 2},
        ["animal,legs\ncow,4", '"a, b",c\nd,e\nf,g', "a, b\nc, d"],
        ["animal,legs", "a,b\nc", "a,b,c\nd,e,f", "a,b\nc,", "Here it is:\na,b\nc,d", '"a,b\nc,d'],
    ),
    "heading": (
        {"level": 2},
        ["## Maps\nThey show land.", "## **Maps**\nText", "##  A map\n\n### More"],
        [
            *("# Maps\nText", "### Maps\nText", "## Maps", "##Maps\nText", "Maps\n## Maps"),
            "## ##\nText",
        ],
    ),
    "code block": (
        {"language": "python"},
        [
            "```python\nprint('hello')\n```",
            "Here:\n``` Python\nx = 1\n\ny = 2\n```\nDone.",
            "```python\r\nx = 1\r\n```\r\n",
            "1. So:\n   ~~~python\n   x = 1\n   ~~~",
            "````python title=a\n```\n````",
        ],
        [
            *(
                "```\nprint('hello')\n```",
                "```python\nprint('hello')",
                "```python\n\n```",
                "print('x')",
            ),
            "```pythonic\nx\n```",
            "````python\nx\n```",
        ],
    ),
    "table": (
        {"columns": 2, "rows": 2},
        [
            "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
            "See:\n\na | b\n:-- | :-:\n1 | 2\n3 | 4\n5 | 6",
            "| | b |\n|---|---|\n| 1 \\| 2 | 2 |\n|| 4 |",
        ],
        [
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "| a | b |\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |",
            "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |",
            "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 | 5 |",
            "| a | b |\n|---|---|\n| | |\n| | |",
            "a, b",
        ],
    ),
    "XML element": (
        {"tag": "note"},
        ["<note>Hello there</note>", "\n<note>\nHi\n</note>\n"],
        [
            "<note>Hello",
            "Well: <note>Hi</note>",
            "<note></note>",
            "<Note>Hi</Note>",
            "<note>Hi</note> and <note>hello</note>",
            "note Hi note",
        ],
    ),
}
