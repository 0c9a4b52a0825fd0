"""A prompt -> what is shown and what is said."""

from __future__ import annotations

import re

from avgen.errors import UserError

# What may open a quotation, and what then closes it.
_PAIRS = {
    '"': '"', "\u201c": "\u201d\u201c", "\u201e": "\u201c\u201d", "\u201d": "\u201d",
    "\u00ab": "\u00bb", "\u00bb": "\u00ab", "\u2039": "\u203a",
    "\u300c": "\u300d", "\u300e": "\u300f",
}  # fmt: skip
_VERBS = "says?|said|saying|speaks?|whispers?|shouts?|asks?|tells?|reads?|sings?|cries"
_SAYING = rf"(?:\b(?:{_VERBS})\b[^'\"]*|[:,]\s*)"
_SINGLE = re.compile(rf"({_SAYING})(?<!\w)['\u2018](\S(?:.*?\S)?)['\u2019](?!\w)")


def parse_prompt(prompt: str) -> tuple[str, str]:
    r"""Split a prompt into (caption, speech): what stands in quotation marks is spoken.

    The marks are double ones, straight or typographic of any language; single ones where no other
    are used and a verb of saying, a colon or a comma goes before. A mark after a backslash or
    inside other marks belongs to what is said; one after a digit where none is open is an inch
    sign.

    Raises:
        UserError: a quotation is opened and not closed.
    """
    if not any(mark in prompt for mark in _PAIRS):
        single = _SINGLE.search(prompt)
        if single:
            caption = prompt[: single.end(1)] + " " + prompt[single.end() :]
            return " ".join(caption.split()), " ".join(single[2].split())
    shown: list[str] = []
    spoken: list[str] = []
    closing, opened = "", 0
    for index, mark in enumerate(prompt):
        escaped = prompt[index - 1 : index] == "\\"
        if mark == "\\" and prompt[index + 1 : index + 2] in _PAIRS:
            continue
        if closing:
            if mark in closing and not escaped:
                closing = ""
                spoken.append(" ")
            else:
                spoken.append(" " if mark in _PAIRS else mark)
        elif mark in _PAIRS and not escaped and not _is_inch(prompt, index):
            closing, opened = _PAIRS[mark], index
            shown.append(" ")
        else:
            shown.append(mark)
    if closing:
        raise UserError(
            f"prompt {prompt!r}: the quotation that {prompt[opened]} opens at character "
            f"{opened + 1} is not closed; quotation marks hold what is spoken"
        )
    return " ".join("".join(shown).split()), " ".join("".join(spoken).split())


def _is_inch(prompt: str, index: int) -> bool:
    return prompt[index] in '"\u201d' and prompt[:index][-1:].isdigit()
