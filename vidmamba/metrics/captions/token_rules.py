"""What Stanford's PTBTokenizer takes for one token, as regular expressions; found by trying it.

Penn Treebank's conventions: contractions are split (do n't), abbreviations keep their period,
brackets have names (-lrb-). The order of the alternatives stands for "the longest match wins".
"""

# ruff: noqa: RUF001, SIM905 (the quotes and dashes are meant; a list of words reads best as text)

import re
from typing import Literal

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that coco-caption removes; it means to remove -LRB- too, but by then that is -lrb-."""

# a few words are two tokens
DIVIDED = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
}

# begin a new sentence after a single letter and a period, which before others is an initial
STARTERS = frozenset(
    """A After An As At But He Her Here However If In It Many Mr. Now Once One Other Our She So Some
    That The Their Then There These They This We What When While Yet You""".split()
)

# other spellings of a token
NAMES = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "€": "$",
    "¤": "$",
    "¢": "cents",
    "…": "...",
}
NAMES |= dict.fromkeys("–—―", "--") | dict.fromkeys("\"“”‘’«»‹›'", "'")

SPACED = {"½": "1/2", "¼": "1/4", "¾": "3/4", "²": "²", "³": "³", "¹": "¹"}
"""Numerals that stand alone, though a letter or digit is beside them."""

ALIKE = str.maketrans({"‐": "-", "‑": "-", "\ufe0f": None})  # hyphens; "show this as an emoji"

ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}

# with a period they are one token
ABBREVIATIONS = """
    adj adm al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bldg blvd bros calif
    capt cf cie cmdr co col colo conn corp cos cpl ct dak dec dept dr ens esq est etc ext feb fla
    fri ft ga gen gov hon inc ind insp intl jan jr jul jun kan kans ky lt ltd maj mar md messrs mich
    minn mlle mme mo mon mont mr mrs ms mt natl neb nev nov oct okla penn ph plc pres prof pvt rd
    rep reps rev rt sen sep sept sgt sq sr st supt tel tenn thu thurs tue tues univ va vs vt wed wis
    wisc wyo
""".split()
# only with a capital, since they are words too
STATES = (
    "Ark AZ Az Del Ill Ind La Mass Miss Ore Pa PA Tex Wash LA DEL ILL MASS ORE TEX WASH".split()
)
# only before a number
NUMBERED = "art ca fig figs no nos op pp prop".split()

_MARKS = (  # they belong to the letter before them, but are no letters to `re`
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u0670\u06d6-\u06ed"
    "\u0900-\u0dff\u0e31-\u0ebc\u0f18-\u0fbc\u102b-\u109d\u135d-\u135f\u1712-\u17d3\u20d0-\u20ff"
    "\ufe20-\ufe2f"
)
_L = rf"(?:[^\W\d_]|[{_MARKS}])"
_A = rf"(?:[^\W_]|[{_MARKS}])"
_NUM = r"(?:\d+(?:[.,]\d+)+|\d+(?:[.,:]\d+)*|(?:[.,:]\d+)+)"
_PATH = r"""(?:/[^\s"<>|()]+[^\s"<>|.!?(){},-])?"""


def _one_of(words: list[str]) -> str:
    return "(?:" + "|".join(words) + ")"


_FIRST = (
    # addresses, tags, smileys
    r"""https?://[^\s"<>|()]+[^\s"<>|.!?(){},-]""",
    rf"""www\.(?:[^\s"<>|.!?(){{}},]+\.)+[a-z]{{2,4}}(?!{_A}){_PATH}""",
    rf"""(?:[^\W\d_]+\.)+(?:com|net|org|edu)(?!{_A}|\.\w){_PATH}""",
    r"""[a-z0-9][^\s"<>|()@]*@(?:[^\s"<>|().@]+\.)*[^\s"<>|().@]+""",
    r"</?[a-z][\w:.-]*/?>",
    r"-lrb-\d+-rrb-(?:\d{3}-\d{4})?",  # a telephone's area code
    r"@[a-z_]\w*",
    rf"#{_L}+",
    r"[<>]?[:;=][-']?[dp()\[\]\\](?!\w)|\^_\^",
    r"c\+\+|[cf]\#",
    r"(?-i:[A-Z]+(?:[+&][A-Z]+)+)",
    # abbreviations, initials, words that lack a space between
    rf"(?:{_A}+-)*(?:{_L}\.){{2,}}(?:-{_A}+)+|(?:{_A}+-)+(?:{_L}\.){{2,}}",
    rf"{_L}{_A}*(?:[.?!]{_L}{_A}*)*[.?!]{_L}{_A}+(?:-{_A}+)*|{_L}[?!]{_L}(?!{_A})",
    rf"ph\.d\.?|(?:{_L}\.)+{_L}(?!{_A})\.?|{_L}{_A}+(?:[.?!]{_L}{_A}*)+",
)
_LAST = (
    # apostrophes
    rf"''(?=s)|(?P<suffix>n['’`]ts?(?!{_L})|['’](?:s|m|d|ll|re|ve)(?!{_A}))",
    rf"{_L}+?(?<!n)(?=n['’`]ts?(?!{_L}))",
    rf"(?:ma['’]am|s['’]mores|c['’](?:mon|est)|ev['’]ry|ol['’])(?!{_A})",
    rf"{_L}*e['’][aeiou]{_L}*(?<!^e['’].)",
    rf"(?:{_A}+-)*[dlno]['’]{_L}{{2,}}(?:-{_A}+)*|(?<!['’])[dlo]['’](?![\w-])|[dljy]['’](?={_L})",
    rf"['’](?:n['’]|n(?!{_L})|(?:em|til|cause)(?!{_A})|t(?=(?:is|was)(?!{_A}))|\d0s(?!{_A}))",
    r"['’]\d\d(?![\w'’])",
    # words, with hyphens and slashes, and numbers
    rf"{_A}+(?:-{_L}+){{0,2}}(?:/{_A}+(?:-{_L}+){{0,2}}){{1,2}}",
    rf"{_A}+(?:_{_A}+)+",
    r"\d+-\d+/\d+|\d+⁄\d+",
    rf"(?:\d+(?:[.,]\d+)+|{_A}+)(?:-{_A}+)+",
    rf"\d+(?:[.,:]\d+)+|{_A}+",
    rf"[-+]?{_NUM}",
    # marks
    r"''|-{5,}|--+|[?!]{2,}|\.\.\.|\*+|_+|@+|\#+|<<|>>",
    r"[^\w\s](?:[\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*",  # an emoji with its modifiers
    r"\S",
)

Following = Literal["number", "starter", "other"]
"""What the next word is: it starts with a digit, it is one of STARTERS, or neither."""


def token_pattern(following: Following) -> re.Pattern[str]:
    """Return the pattern of one token of a word, given what follows the word."""
    numbered = r"\." if following == "number" else r"\.(?=\d)"
    initial = r"\.(?!$)" if following == "starter" else r"\."
    abbreviations = (
        rf"{_L}{initial}|{_L}+\.(?=[,;:])",
        rf"{_A}+[.,]{_A}*-{_A}+",
        rf"{_one_of(ABBREVIATIONS)}\.|(?-i:{_one_of(STATES)})\.|{_one_of(NUMBERED)}{numbered}",
    )
    rules = (*_FIRST, *abbreviations, *_LAST)
    return re.compile("|".join(f"(?:{rule})" for rule in rules), re.IGNORECASE)
