import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from uptake import RESEARCH_USE_ONLY
from uptake.cases import SourceFile
from uptake.core.pages import Picture, words
from uptake.geometry import Volume
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.pictures import fusion_picture, mip_picture
from uptake.quantification.report import (
    ModelFacts,
    ReportContent,
    report_html,
    summary_sentence,
    volume,
)

GRID = np.diag([4.0, 4, 4, 1])
EVIL = """<script>alert('x')</script><img src=x onerror="a()">&{{ 7*7 }}"""


class Page(HTMLParser):
    """Collects tags and attributes, and checks that every element is closed in order."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def table(spots=((3, 3, 3), (8, 8, 8))):
    pet, mask = np.ones((12, 12, 12)), np.zeros((12, 12, 12), np.uint8)
    for n, spot in enumerate(spots):
        mask[spot] = 1
        pet[spot] = 5 + n
    return Volume(pet, GRID), measure_lesions(Volume(pet, GRID), Volume(mask, GRID))


@pytest.fixture(scope="module")
def content():
    pet, lesions = table()
    return ReportContent(
        case_id="case-7",
        table=lesions,
        mip=Picture(mip_picture(pet, lesions.numbered), "Projections", "Coronal and sagittal projections"),
        cuts=(Picture(fusion_picture(pet, None, None, lesions.lesions[0].hottest_mm), "Cuts", "Three cuts"),),
        warnings=("The PET and CT do not overlap everywhere.",),
        model=ModelFacts("small", "1.2", "0123456789abcdef", trained_on="41 patients", limits=("One scanner only.",)),
        sources=(SourceFile("pet", "/home/someone/secret/pet.nii.gz", "f" * 64),),
        image={"Voxel size, mm": (4.0, 4.0, 4.0)},
        suv={"Radionuclide Half Life (0018,1075), s": 6586.2, "corrected": True},
        settings={"step": 0.5},
        timings_s={"model": 1.25},
        versions={"uptake": "0.1.0"},
        created="2024-05-06 07:08 UTC",
    )


def test_the_page_is_well_formed_and_complete(content):
    html = report_html(content)
    page = Page()
    page.feed(html)
    assert page.open == []
    for text in (
        "case-7", "2 lesions", "SUVmax", "41 patients", "One scanner only.", "0123456789ab", "f" * 12, "6586.2",
        "do not overlap everywhere", "18-connectivity", "1.25 s", "0.1.0", "2024-05-06", "Voxel size, mm", "mL", "g/mL",
    ):  # fmt: skip
        assert text in html, text
    assert html.count(RESEARCH_USE_ONLY) == 2
    assert [image["alt"] for image in page.images] == ["Coronal and sagittal projections", "Three cuts"]


def test_the_page_refers_to_nothing_outside_itself(content):
    html = report_html(content)
    assert "http" not in html and "<script" not in html and "@import" not in html and "<link" not in html
    page = Page()
    page.feed(html)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert not re.search(r"url\s*\(", re.sub(r'src="data:[^"]*"', "", html))


def test_only_the_last_part_of_a_path_is_shown(content):
    html = report_html(content)
    assert "pet.nii.gz" in html and "secret" not in html
    windows = replace(content, sources=(SourceFile("pet", r"C:\someone\pet.nii", "e" * 64),))
    assert "someone" not in report_html(windows)


def test_every_text_is_escaped(content):
    evil = replace(
        content,
        case_id=EVIL,
        warnings=(EVIL,),
        model=ModelFacts(EVIL, EVIL, EVIL, EVIL, EVIL, (EVIL,), EVIL),
        sources=(SourceFile(EVIL, EVIL, EVIL),),
        image={EVIL: EVIL},
        suv={EVIL: [EVIL]},
        mip=Picture(b"\x89PNG", EVIL, EVIL),
        created=EVIL,
    )
    html = report_html(evil)
    page = Page()
    page.feed(html)
    assert "script" not in page.tags and page.tags.count("img") == 2
    assert all("onerror" not in image for image in page.images)
    assert "{{ 7*7 }}" in html and page.open == []


def test_an_empty_case_says_so(content):
    _, nothing = table(spots=())
    html = report_html(ReportContent(case_id="a", table=nothing))
    assert "No lesion was found" in html and "The mask holds no lesion." in html and "mask was given" in html
    assert "nan" not in html.lower().replace("–", "")
    assert "Please note" not in html


def test_summary_sentence():
    _, two = table()
    assert summary_sentence(two) == (
        "2 lesions, total MTV 0.13 mL, TLG 0.70 g, hottest SUVmax 6.00, highest SUVpeak 1.32, "
        "largest distance between lesions 3.5 cm."
    )
    _, one = table(spots=((3, 3, 3),))
    assert summary_sentence(one).startswith("1 lesion, total MTV 0.06 mL")


def test_numbers_read_well():
    assert [volume(v) for v in (0.0, 1.234, 9.996, 12.34, 99.96, 1234.5, float("nan"))] == [
        "0.00", "1.23", "10.0", "12.3", "100", "1,234", "–",
    ]  # fmt: skip
    assert words(None) == "–" and words(False) == "no" and words((1, 2.5)) == "1, 2.5" and words({"a": 1.0}) == "a: 1"


def test_same_content_same_page(content):
    assert report_html(content) == report_html(content)


def test_chance_letters_in_a_picture_do_not_look_like_a_link(content):
    import base64

    png = base64.b64decode("AAAAhttpAAAA")
    html = report_html(replace(content, mip=Picture(png, "", "")))
    source = re.search(r'src="data:image/png;base64,([^"]*)"', html).group(1)
    assert "http" not in html and base64.b64decode(source.replace("\n", "")) == png


def gate(*lights):
    findings = [
        {"check": f"c{n}", "light": light, "title": f"Rule {n}", "measured": f"{n} mm" if light != "grey" else "",
         "expected": "at most 7 mm", "sentence": f"Sentence {n}.", "details": {}}
        for n, light in enumerate(lights)
    ]  # fmt: skip
    return {"schema": "uptake-gate/1", "light": lights[0], "line": "input gate", "findings": findings}


def test_the_gates_light_stands_at_the_top_and_its_reasons_below_worst_first(content):
    html = report_html(replace(content, gate=gate("red", "green", "amber", "grey")))
    page = Page()
    page.feed(html)
    assert page.open == []
    verdict = re.search(r'<p class="verdict">.*?</p>', html, flags=re.DOTALL).group(0)
    assert html.index(verdict) < html.index("<main>")
    assert "<strong>red</strong> – Rule 0, Rule 2" in verdict
    places = [html.index(f"Sentence {n}.") for n in (0, 2, 3, 1)]
    assert places == sorted(places)
    assert "1 check as expected" in html and "not known" in html and "expected: at most 7 mm" in html
    # The colour is never the only sign.
    assert html.count('role="img" aria-label="amber"') == 1


def test_a_green_gate_shows_its_checks_and_a_gate_that_was_not_run_says_so(content):
    html = report_html(replace(content, gate=gate("green", "green")))
    assert "<strong>green</strong></p>" in html and "<details open>" in html
    assert "Input gate: not run." in report_html(content)


def test_the_gates_words_are_escaped(content):
    evil = gate("amber")
    evil["findings"][0] |= {"title": EVIL, "measured": EVIL, "expected": EVIL, "sentence": EVIL}
    page = Page()
    page.feed(report_html(replace(content, gate=evil)))
    assert "script" not in page.tags and page.open == []


def test_a_report_with_organs_is_whole_and_folds_long_tables(content):
    from uptake.quantification.assessment import assess
    from uptake.quantification.response import Patient

    pet, lesions = table()
    organs = np.zeros((12, 12, 12), np.uint8)
    organs[2:5, 2:5, 2:5] = 1
    names = {1: "liver<b>", **{n: f"rib_{n}" for n in range(2, 40)}}
    organs[11, :, 0] = range(2, 14)
    organs[11, :, 1] = range(14, 26)
    organs[11, :, 2] = range(26, 38)
    found = assess(pet, lesions, patient=Patient("FDG", True), organs=pet.with_array(organs), names=names)
    pictures = (Picture(content.mip.png, "Reference liver", "Cuts"),)
    page = report_html(replace(content, table=lesions, organs=found.organs, assessment=found, reference_cuts=pictures))
    reader = Page()
    reader.feed(page)
    assert reader.open == [] and "<b>" not in page and "liver&lt;b&gt;" in page
    assert "36 more" in page  # ribs without a lesion are folded; the organ with one is not
    assert page.index("Against healthy tissue") < page.index('id="organs"')
    assert "not placed: the organ map has no liver" in page and "Reference liver" in page
    assert page.count('scope="col">Score') == 0  # no reference, no score
