"""How it is recognised that an answer says: the passage does not tell."""

import pytest

from trainer.evaluate.judging.silence import says_nothing_of_it

SILENT = """
The passage does not say.
The passage doesn't mention it.
That isn't mentioned in the passage.
It is not stated.
The text does not explicitly state how many people live there.
The passage does not provide any information about the prime minister.
There is no information about the price in the passage.
The passage gives no indication of his age.
The author never tells us.
The passage does not specify the year, it only mentions the islands.
The prime minister of Australia is not specified in the passage.
Not mentioned.
Not given
Unspecified.
It's unclear; the passage never says who designed it.
The answer cannot be determined from the passage.
This can't be answered from the text.
There isn't enough information to say.
The passage says nothing about the cost.
Nothing is said about it.
The passage is silent on that.
The passage makes no mention of the captain.
The text fails to mention his mother.
No answer is given in the passage.
The passage does not contain the answer to that question.
The passage doesn\u2019t actually say how long it took.
Unknown.
The name of the captain was not given.
It is not clear from the passage.
The article does not go into that.
That information is not provided.
It does not say.
It isn't in the passage.
The question cannot be answered.
Insufficient information.
The passage does not mention the price of salt, but it does mention that salt dissolves in water.
The given passage lacks any mention of his father.
The weight is never stated.
One does not learn who did it.
The reader does not find out.
The reader never learns his name.
This remains unsaid.
It's not among the things the passage tells.
The passage only tells that Egypt is mostly desert.
The passage is limited to the Nile.
The passage is confined to Egypt's geography.
The passage gives only the capital.
The passage just gives the capital.
Only the capital is mentioned.
Only the capital is given in the passage.
The passage mentions only the capital.
I only see the capital mentioned.
The passage omits this.
This was omitted from the passage.
The passage leaves it open who designed it.
The passage says who owned it, not who designed it.
The designer goes unnamed.
No designer is named in the text.
There is no designer named in the passage.
I'd need a longer passage.
The passage isn't about that.
That's not what the passage is about.
the text dosent say
The passge does not menton it.
There's nothing to indicate that in the passage.
The passage doesn't talk about this.
The passage hasn't told us.
That fact is absent from the passage.
It does not come up in the text.
This never comes up.
The passage never brings that up.
The passage has little to say about that.
The passage makes no claim about that.
The passage offers nothing on this.
The text is not informative on that point.
The text only goes as far as naming the town.
The text covers only the town's harbour.
The text mentions the town only in passing.
The passage talks of the tower but its steps are not counted.
The passage describes the tower, yet gives no count of its steps.
While the passage names the town, it does not name its mayor.
Except for the year, nothing is mentioned.
Besides the year nothing is given.
Who designed it is left open.
Who designed it cannot be gleaned from the text.
It can't be gathered from the passage.
You can't get that from the passage.
The passage alone doesn't let us answer.
The passage does not allow one to answer that.
The passage doesn't help here.
The passage doesn't help me answer that.
The passage leaves the question open.
Based on the passage, it is unknown.
Not according to the passage.
The passage would have to mention it.
The passage should have mentioned it, but it does not.
If it was mentioned, I missed it.
The passage is of no help with that.
The passage refrains from giving his age.
The passage avoids the question.
The passage deals with other things.
The passage focuses on the harbour rather than the mayor.
The passage focuses solely on the harbour.
The passage concerns the harbour, not its builders.
The text discusses the harbour without naming its builder.
The text gives the year but no name.
It mentions the year but no names.
It tells us the year and nothing else.
We only know the year.
We only learn the year it was built.
The reader is left in the dark.
The reader has to guess.
One can only guess.
You'd have to guess.
The information in the passage is insufficient.
The information given does not suffice.
The passage does not suffice to answer that.
The passage is too short to say.
Passage silent.
The passage, which is about the tower, does not mention steps.
It's not for the passage to say.
It would be speculation to answer from the passage.
The passage only talks about the harbour, not the mayor.
The passage only talks about the founding of the town, not its population.
That detail is omitted.
The passage leaves that out.
You can't tell from this text.
One cannot infer this from the paragraph.
The passage describes the harbour but does not name the mayor.
The passage tells us when it was built, but not by whom.
Although the passage describes the town, it gives no figure for its population.
The passage is about the harbour and has nothing to say on the mayor.
The question asks about the mayor, but the passage is about the harbour.
The passage neglects to say.
Nowhere does the passage say that.
Doesn't say.
The passage only mentions the harbour.
The passage only describes the harbour and the market.
That is left unsaid.
The mayor remains unnamed.
No name is given.
No year is given.
The text stops before it gets to the mayor.
The passage mentions many people, but the captain isn't one of them.
Not a single word is said about the price.
One looks in vain for the year in this passage.
I've read it twice and found no year.
The passage keeps that to itself.
The author keeps us in the dark about his age.
The passage does not go so far as to name the captain.
All that the passage says is that it was built of stone.
The passage merely says that it was built of stone.
The passage says where it stands, not who designed it.
We learn where it stands but not who designed it.
We are told where it stands, but not its height.
Its height isn't among the facts given.
Nobody could work that out from this passage.
A reader cannot know this from the passage alone.
the pasage doesnt mention that
It's left open.
That is left to the reader's imagination.
No price is mentioned.
None is mentioned in the passage.
The passage mentions no price.
The text names no author.
The passage would need to say more.
You would have to look beyond the passage for that.
The passage doesn't concern itself with prices.
The only thing said about the tower is that it is made of iron.
""".strip().splitlines()

ANSWERS = """
Canberra.
The capital of Australia is Osaka.
The Eiffel Tower has 188 steps.
The passage says that it fell in 2002.
It did not fall in 2002, but in 1989.
The passage mentions Norway.
It is made of copper and does not rust.
The largest diamond is not owned by anyone.
The passage does not mention the price, but it is probably five dollars.
The passage doesn't say, but I think it was John Jacob Astor.
The text does not say so, though it is well known to be about 12 metres.
He had no children.
Nobody designed it.
It is said to be 300 years old.
There is nothing wrong with it.
It is the author of the book.
The tower has no steps.
The Nile is not mentioned in the song, the desert is.
There is no answer but war.
There is no evidence that he was there, but he said Rome.
No details survive of the ship.
Because it was not mentioned in the will.
It isn't there any more.
They were not told.
It does not provide shade.
He did not mention it to his wife.
They never said goodbye.
It has no name.
It has no age limit.
No cars are included.
No dogs are given food.
It is not possible to swim there.
It's impossible to see the stars.
You can't see it by day.
We cannot see it with the naked eye.
One can't read it without a glass.
1820, although the passage does not say who built it.
The passage does not say 1830 but 1820.
The mayor, who is not named until the end, is Anna Holm.
It was not mentioned to the king, but to Anna Holm.
The letter was never found.
The passage doesn't mention anyone except Anna Holm.
Tom Reed, though his age is not given.
Tom Reed. His age is not mentioned.
They do not say hello, they bow.
It is not known for its wine but for its cheese.
The king was not told.
She was not named after her mother.
It was not found in Egypt.
The silent film was lost.
The author never left his town.
It gives no light.
Only the queen was told.
The text was written by Newton.
""".strip().splitlines()


@pytest.mark.parametrize("text", SILENT)
def test_what_says_that_the_passage_is_silent_is_recognised(text: str) -> None:
    """Catches a wording that counts as an invented answer."""
    assert says_nothing_of_it(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_what_answers_is_no_silence(text: str) -> None:
    """Catches an answer with a "not" in it that counts as honest."""
    assert not says_nothing_of_it(text)


@pytest.mark.parametrize("text", ["It does not have any moons.", "He did not have children."])
def test_what_a_thing_does_not_have_is_an_answer(text: str) -> None:
    """Catches a statement about the thing that is read as one about the passage."""
    assert not says_nothing_of_it(text)
