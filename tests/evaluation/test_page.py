from html.parser import HTMLParser

from uptake import RESEARCH_USE_ONLY
from uptake.core.pages import Picture
from uptake.evaluation.page import Page, Section, page_html
from uptake.evaluation.tables import Table

EVIL = """<script>alert('x')</script>&{{ 7*7 }}"""


class Parsed(HTMLParser):
    """Collects tags, texts and images, and checks that every element is closed in order."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.images, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(page):
    html = page_html(page)
    reader = Parsed()
    reader.feed(html)
    assert reader.open == []
    return html, reader


PAGE = Page(
    "Evaluation",
    "results",
    "Mean Dice 0.8.",
    warnings=("one case is missing",),
    sections=(
        Section(
            "Scores",
            ("Words.",),
            (Table("A caption.", ("label", "Dice"), (("lesion", "0.8"),)),),
            (Picture(b"\x89PNG", "Every dot a scan.", "Dots"),),
        ),
    ),
    facts={
        "rule": "nan",
        "draws": 10000,
        "resampled": False,
        "none": None,
        "share": 0.5,
        "list": [1, 2],
        "map": {"a": 1},
    },
)


def test_everything_is_on_the_page():
    html, page = parsed(PAGE)
    text = " ".join(page.texts)
    for words in ("Evaluation", "results", "Mean Dice 0.8.", "one case is missing", "Scores", "A caption.", "lesion"):
        assert words in text
    for words in ("Every dot a scan.", "no", "0.5", "1, 2", "a: 1", RESEARCH_USE_ONLY):
        assert words in text
    (image,) = page.images
    assert image["alt"] == "Dots" and image["src"].startswith("data:image/png;base64,")
    assert html == page_html(PAGE)


def test_nothing_is_fetched_and_nothing_runs():
    html, page = parsed(PAGE)
    assert "http" not in html and not {"script", "link", "iframe"} & set(page.tags)


def test_values_are_escaped():
    evil = Page(EVIL, EVIL, EVIL, (EVIL,), (Section(EVIL, (EVIL,), (Table(EVIL, (EVIL,), ((EVIL,),)),)),), {EVIL: EVIL})
    html, page = parsed(evil)
    assert "script" not in page.tags and "<script" not in html
    assert "{{ 7*7 }}" in html and "&49" not in html


def test_parts_that_are_empty_are_left_out():
    html, _ = parsed(Page("Evaluation", "results", "Nothing."))
    assert "Please note" not in html and "How this was made" not in html
