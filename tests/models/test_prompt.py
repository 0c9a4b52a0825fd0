"""What is shown and what is said."""

import pytest

from avgen.models.prompt import parse_prompt


@pytest.mark.parametrize(
    ("prompt", "caption", "speech"),
    [
        ('a man says "place red at g nine now"', "a man says", "place red at g nine now"),
        ("a man \u201chello there\u201d smiles", "a man smiles", "hello there"),
        ('"one" then "two  three"', "then", "one two three"),
        ("a man", "a man", ""),
        ("", "", ""),
        ('He says "I said \\"stop\\" now"', "He says", "I said stop now"),
        ('He says "I said \u201cstop\u201d now"', "He says", "I said stop now"),
        ('a 6" doll and a 5" cat: "hi"', 'a 6" doll and a 5" cat:', "hi"),
        ('she says "it is 5"', "she says", "it is 5"),
        ("a man says \u00abplace red\u00bb", "a man says", "place red"),
        ("a man says \u201eplace red\u201c loudly", "a man says loudly", "place red"),
        ("a man says \u300cplace red\u300d", "a man says", "place red"),
        ("a man says 'don't place red' now", "a man says now", "don't place red"),
        ("the boys' school and 'tis a girl's", "the boys' school and 'tis a girl's", ""),
        ("a man's hat: 'hello'", "a man's hat:", "hello"),
    ],
)
def test_quotes_hold_what_is_spoken(prompt, caption, speech):
    assert parse_prompt(prompt) == (caption, speech)


@pytest.mark.parametrize("prompt", ['a man says "place red', "he says \u00abhello", 'x "a" "b'])
def test_an_open_quote_is_an_error(prompt):
    with pytest.raises(ValueError, match="not closed"):
        parse_prompt(prompt)
