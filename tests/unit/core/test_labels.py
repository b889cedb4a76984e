import re

import pytest

from cvae_protein.core.labels import RESERVED, RUNGS, depth_of, is_text_of, is_within, lineage, own_code, truncate


@pytest.mark.parametrize("text", ["kinase", "transferase.kinase", "2.7.11.1", "GPCR-A", "a_b", "IG_like.V-set"])
def test_plain_text_is_its_own_code(text):
    assert own_code(text) == text


TEXTS = [
    "a b",
    "a_b",
    "a  b",
    "a/b",
    "β barrel",
    "Größe",
    "Class A (Rhodopsin)",
    "/x",
    "日本",
    "-x",
    "x" * 50,
    *RUNGS,
]


def test_any_text_has_a_code_of_its_own_that_can_name_a_file():
    codes = {own_code(text) for text in [*TEXTS, *RESERVED, "All"]}
    assert len(codes) == len(TEXTS) + len(RESERVED)  # two blanks are one
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", code) for code in codes)
    assert not {code.lower() for code in codes} & {*RESERVED, *RUNGS}


def test_levels_stay_levels():
    code = own_code("Class A (Rhodopsin). amine ")
    assert truncate(code, 1) == own_code("Class A (Rhodopsin)")
    assert is_within(code, own_code("Class A (Rhodopsin)"))
    assert code.endswith(".amine")
    assert is_text_of("Class A (Rhodopsin).amine", code)
    assert not is_text_of("Class B", code)


@pytest.mark.parametrize("text", ["", ".", "kinase.", ".kinase", "a..b", "  "])
def test_a_level_needs_text(text):
    assert not is_text_of(text, "kinase")
    with pytest.raises(ValueError, match="one dot between them"):
        own_code(text)


def test_a_label_at_each_of_its_levels():
    assert lineage("3.40.50") == ["3", "3.40", "3.40.50"]
    assert depth_of("3.40.50") == 3
    assert (lineage(""), depth_of("")) == ([], 0)
