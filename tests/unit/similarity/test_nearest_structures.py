from pathlib import Path

import pytest
from score_synthetic import chain, deformed, moved, prepared, ubiquitin

from cvae_protein.core.files import read_table
from cvae_protein.score.metrics.novelty import NearestDomains, nearest_same_class
from cvae_protein.similarity import nearest_structures
from cvae_protein.similarity.nearest_structures import RECALL, Library, Search, descriptor, tm_align_score

LIBRARY = [prepared(chain(70 + seed, seed), label=f"{1 + seed % 2}.10", name=f"c{seed}") for seed in range(16)]


def test_the_descriptor_does_not_see_motions():
    trace = ubiquitin()[:, 1]
    assert descriptor(moved(trace)) == pytest.approx(descriptor(trace), abs=1e-5)


def test_the_nearest_is_found_among_strangers():
    wanted = prepared(moved(deformed(ubiquitin(), 0.8)), label="3.10.20", name="wanted")
    query = prepared(ubiquitin(), label="3", name="query")
    hit = Search(4).nearest(query, Library([*LIBRARY, wanted]))
    assert (hit.id, hit.label) == ("wanted", "3.10.20")
    assert hit.tm == pytest.approx(tm_align_score(query.ca, wanted.ca)[0])


def test_the_score_is_normalised_by_the_query():
    half = prepared(ubiquitin()[:60], name="half")
    query = prepared(ubiquitin(), name="whole")
    assert Search(1).nearest(half, Library([query])).tm == pytest.approx(1, abs=0.01)
    assert Search(1).nearest(query, Library([half])).tm == pytest.approx(60 / 76, abs=0.05)


def test_the_search_agrees_with_the_exhaustive_one():
    library = Library(LIBRARY)
    for seed in range(4):
        query = prepared(chain(75, 100 + seed), name=f"q{seed}")
        best = max(tm_align_score(query.ca, each.ca)[0] for each in LIBRARY)
        assert Search(12).nearest(query, library).tm > best - 0.02


def test_what_the_filter_and_the_glance_leave_out_is_not_aligned(monkeypatch):
    monkeypatch.setattr(nearest_structures, "ESTIMATED", 3)
    monkeypatch.setattr(Library, "most_screened", 8)
    library = Library([*LIBRARY, prepared(moved(deformed(ubiquitin(), 0.5)), name="wanted")])
    search, query = Search(50), prepared(ubiquitin(), name="query")
    assert len(library.candidates(query)) == 8
    assert search.nearest(query, library).id == "wanted"
    assert len(search.exact) <= 3


def test_structures_of_other_lengths_and_forbidden_ones_do_not_count():
    query = prepared(ubiquitin(), name="query")
    far = prepared(chain(120), name="far")
    assert Search(4).nearest(query, Library([far])).id == ""
    assert Search(4).nearest(query, Library([query]), lambda target: target.id != "query").id == ""
    assert Search(4).nearest(query, Library([])).id == ""
    assert Search(4).nearest(prepared(ubiquitin()[:3]), Library([query])).id == ""


def test_the_class_is_kept_level_by_level():
    search = Search(4)
    hit = search.nearest(prepared(ubiquitin(), name="q"), Library([prepared(ubiquitin(), label="3.10.20", name="t")]))
    assert [nearest_same_class(NearestDomains(asked, hit, hit, hit)) for asked in ("3", "3.10", "3.1", "1")] == [
        1,
        1,
        0,
        0,
    ]


def test_the_page_states_the_recall_that_was_measured():
    rows = read_table(Path(__file__).parents[3] / "benchmarks/results/nearest.tsv", ("what", "n", "ours", "peer_name"))
    found = {row["what"].split(", ", 1)[1]: row for row in rows}
    for kind in ("samples", "real domains"):
        row = found[f"recall, {kind}"]
        hits = round(float(row["ours"]) * int(row["n"]))
        assert f"{hits} of {row['n']} {kind} ({row['peer_name'].removeprefix('95 % interval ')})" in RECALL
    worst = max(float(found[f"worst miss, {kind}"]["ours"]) for kind in ("samples", "real domains"))
    assert f"at most {worst:.3f} in" in RECALL


def test_a_pair_is_aligned_once_whichever_comes_first(monkeypatch):
    first, second = prepared(ubiquitin(), name="first"), prepared(chain(60), name="second")
    search = Search(4)
    found = search.aligned(first, second)
    assert found == tm_align_score(first.ca, second.ca)
    monkeypatch.setattr(nearest_structures, "tm_align_score", None)
    assert search.aligned(second, first) == found[::-1]
    assert search.aligned(first, second) == found
