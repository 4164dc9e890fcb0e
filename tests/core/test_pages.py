"""What pages have alike: nothing is shown unescaped, nothing missing goes unnoticed, pictures are inside."""

from __future__ import annotations

import base64

import pytest

from uptake.core import pages
from uptake.core.pages import embedded, rendered, words


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A room with one template."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.j2").write_text("<p>{{ text | words }} {{ n | twice }}</p>", encoding="utf-8")
    monkeypatch.setattr(pages.resources, "files", lambda room: tmp_path)


def test_values_are_escaped_and_filters_added(template):
    page = rendered("room", "page.j2", {"twice": lambda n: str(2 * n)}, text="<script>", n=4)
    assert page == "<p>&lt;script&gt; 8</p>"


def test_a_value_that_is_not_given_is_an_error(template):
    jinja2 = pytest.importorskip("jinja2")
    with pytest.raises(jinja2.UndefinedError, match="text"):
        rendered("room", "page.j2", {"twice": str}, n=4)


def test_pictures_come_back_from_the_address_that_holds_them():
    # b"\x86\xdb\x69" * 40 is full of the letters "http" in base64.
    png = base64.b64decode("http" * 40)
    address = embedded(png)
    assert address.startswith("data:image/png;base64,") and "http" not in address
    assert base64.b64decode(address.partition(",")[2]) == png


def test_plain_values_as_text():
    found = {"a": 1 / 3, "b": [True, None], "c": {"d": "x"}}
    assert words(found) == "a: 0.333333, b: yes, –, c: d: x"
