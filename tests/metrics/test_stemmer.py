import pytest

from vidmamba.metrics.captions.stemmer import stem

# words and stems of the algorithm's own page, by the step they need
PUBLISHED = """
    consign consign  consigned consign  consigning consign  consignment consign  consist consist
    consisted consist  consistency consist  consistent consist  consistently consist
    consolation consol  consolations consol  consolatory consolatori  console consol
    consolingly consol  conspicuous conspicu  conspiracy conspiraci  constable constabl
    knack knack  knackeries knackeri  knavish knavish  kneaded knead  kneeling kneel  knelt knelt
    knickknack knickknack  knightly knight  knights knight  knitting knit  knives knive  knots knot
    skis ski  skies sky  dying die  news news  proceed proceed  herring herring  generous generous
    cries cri  ties tie  gas gas  this this  gaps gap  kiwis kiwi  hopping hop  hoping hope  by by
    say say  luxuriated luxuri  rational ration  happiness happi  electricity electr  youth youth
    communism communism  arsenal arsenal  feed feed  agreed agre  controlling control
""".split()  # noqa: SIM905


@pytest.mark.parametrize(("word", "expected"), [*zip(PUBLISHED[::2], PUBLISHED[1::2], strict=True)])
def test_stems_are_the_published_ones(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize("word", ["", "a", "日本語", "😀", "'s", "1990s", "-lrb-", "café"])
def test_what_is_no_english_word_has_a_stem_too(word: str) -> None:
    assert stem(word) in (word, word.removesuffix("s"), word.removeprefix("'"), "")
