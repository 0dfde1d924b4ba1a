"""Prose in several languages, and what stands between paragraphs of prose and is none."""

import textwrap
from pathlib import Path

FOLDER = Path(__file__).with_name("prose")


def paragraphs(language: str) -> tuple[str, ...]:
    """The paragraphs of prose/LANGUAGE.txt, each on one line."""
    text = (FOLDER / f"{language.lower()}.txt").read_text(encoding="utf-8")
    return tuple(text.strip().split("\n\n"))


def wrapped(paragraph: str, width: int = 72, **options: str) -> str:
    """A paragraph as Python's own textwrap fills it, hyphenated words whole."""
    return textwrap.fill(paragraph, width, break_on_hyphens=False, **options)


def book(*blocks: str) -> str:
    return "\n\n".join(blocks)


ENGLISH = paragraphs("English")
SPACED = ("German", "French", "Russian", "Korean", "Arabic", "Hindi")
SPACELESS = ("Chinese", "Japanese", "Thai")
NO_PROSE = {
    "sonnet": """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;""",
    "indented verse": """\
    Tyger Tyger, burning bright,
    In the forests of the night;
      What immortal hand or eye,
      Could frame thy fearful symmetry?""",
    "verse without capitals": """\
the boats come home when the lamps are lit,
and the nets are hung on the garden wall,
and nobody asks them where they have been,
for the fish are few and the boats are small""",
    "verse without punctuation": """\
i saw the river in the morning light
and all the boats were going out to sea
i did not know the way to hold it right
and you were never looking back at me

we had a house beneath the willow tree
we had a table and a broken chair
and every summer you would sing to me
of all the places that were never there

the water took the bridge and took the road
the water took the letters that you wrote
and all i have is what the river owed
a lantern and a ticket for the boat""",
    "long verse": """\
Sing, goddess, the anger of Achilles, the son of Peleus the king,
That brought so many sorrows upon the hosts of the Achaean men,
And sent so many souls of heroes down to the house of the dead,
And gave their bodies to be a feast for the dogs and all the birds;""",
    "list": """\
- the first thing that must be done is to look at the wheels of the cart
  and at the axle, which is likely to be worn on the side of the river
- the second thing is the harness
* the third has no end that anybody could have thought of before this one
  was written""",
    "numbered list": """\
1. Take the road to the mill, and do not turn at the forge, however much it
   may look like the shorter way.
2. Ask for the key.
3) Wait until the water is down, which may take all of the morning and some
   of the afternoon.""",
    "table": """\
year      wheat      barley     oats       rye, in bushels to the acre
1870      21.3       30.1       28.4       14.0
1871      22.0       29.8       27.9       13.7
1872      18.7       27.2       26.0       12.9""",
    "table with bars": """\
| place            | people | what they do there for most of the year     |
|------------------|--------|---------------------------------------------|
| the mill         | 4      | they grind what the farms bring them        |
| the forge        | 2      | they shoe the horses and mend the ploughs   |""",
    "Python": """\
def toll(carts, fee=2):
    total = 0
    for cart in carts:
        if cart.is_loaded and not cart.belongs_to(PARISH):
            total += fee * cart.wheels
    return total""",
    "C": """\
static int toll(const struct cart *carts, size_t count, int fee, int parish)
{
    int total = 0;
    for (size_t i = 0; i < count && carts[i].wheels > 0 && !carts[i].paid;
         i++)
        total += fee * carts[i].wheels;
    return total;
}""",
    "fenced code": """\
```
the words in a fence are as they are, however much they may look like prose
that somebody has wrapped at the edge of the page, and then wrapped once
again
```""",
    "mail headers": """\
From: The Keeper of the Toll <toll@example.com>
To: All who pass by the mill, and those who would rather not pass by it <a@b.c>
Subject: the gate will be shut on Thursday, and what you can do about that in
  the meantime
Date: Thu, 1 Jan 1998 10:00:00 +0000""",
    "quoted mail": """\
> I have been told that the gate is to be shut on Thursday, and that all who
> want to go to the market must go by the ford, which is not at all safe at
> this time of the year.""",
    "address": """\
Mr. Nathaniel Thornbury, Keeper of the Toll
The Gate House
Lower Mill Road
Thornbury-on-the-Water""",
    "table of contents": """\
1. Of the road and of the mill ................................ 3
2. Of the flood, and of those who rowed from roof to roof ..... 17
3. Of the bridge .............................................. 42""",
    "heading": """\
THE SECOND PART
In which the bridge is built""",
    "heading of two lines": """\
OF THE ROAD, OF THE MILL, AND OF EVERYTHING THAT BELONGS TO THEM, WITH A
FEW WORDS ON THE DOG""",
    "HTML": """\
<p>The road to the mill goes down through the village, past the forge and
the two elms, and then along the river for a mile or so before it climbs
again.</p>""",
    "underlined heading": """\
The history of the bridge, and of the men who built it in two long winters
==========================================================================""",
    "ASCII art": r"""
     ___________________________________________
    /|  |  |  |  |  |  |  |  |  |  |  |  |  |  |\
   / |__|__|__|__|__|__|__|__|__|__|__|__|__|__| \
  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~""".lstrip("\n"),
    "fields": """\
:param carts: those that came through the gate on the day, in the order in
    which they came
:returns: what they have paid, in pence, without what the parish has let them
    off""",
    "bibliography": """\
Thornbury, N. A history of the bridge over the river at the mill, with an
    account of the flood and of the two winters that followed. Privately
    printed, 1898.""",
    "signature": """\
Thornbury
Keeper of the Toll
(ring twice)""",
    "prompt": """\
$ grep --recursive --ignore-case toll /srv/parish/books/ | sort | uniq --count
$ wc -l books.txt
>>> total(carts)
42""",
    "Chinese verse": """\
床前明月光,疑是地上霜。
举头望明月,低头思故乡。""",
    "log": """\
the gate was opened for a cart of number 00183 and then it was shut once more
the gate was opened for a cart of number 00192 and then it was shut once more
the gate was opened for a cart of number 00207 and then it was shut once more
the gate was opened for a cart of number 00211 and then it was shut once more""",
    "query": """\
select name, place, count(*) as carts from toll where year = 1898 and fee > 2
group by name, place having count(*) > 10 order by carts desc, name asc limit 9
union all select name, place, 0 as carts from parish where not exists (select 1
from toll where toll.name = parish.name) order by name""",
    "captions": """\
17
00:00:17,000 --> 00:00:18,500
and then he went down to the river to look for the boat that had been lost in
the year of the flood""",
    "definitions": """\
mill      the house by the river where they grind what the farms bring to
          them, and where the dog sleeps
forge     where they shoe the horses""",
    "notes": """\
[1] This is a note that is longer than the line can hold, and therefore it goes
on in the next one, flush.
[2] This is another one.""",
    "lines of sentences": """\
The gate is open from six in the morning until ten o'clock at night.
Carts with more than four wheels must wait until the others have gone by.
The fee is two pence for every wheel.
Dogs are let through without any fee, but they may not go alone.""",
}
