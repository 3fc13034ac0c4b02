"""Pictures of evidence on the page: shown where their mechanism is, as text where they bite, never too many."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from committed import LARGEST, committed
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts import pictures as pictures_module
from guardclash.reporting.page_parts.pictures import PNG, ROOM
from guardclash.studies.study import Study
from pages import EVIL, QUOTED, Element, everything, read, section, sound

HEADING = "What mechanisms put into the training, under seed 0"


def png(width: int = 8, height: int = 6, grey: int = 128, padding: int = 0) -> bytes:
    """A picture of one grey; `padding` bytes of comment make it heavier."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    comment = chunk(b"tEXt", b"Comment\0" + b"x" * padding) if padding else b""
    return (
        PNG
        + head
        + comment
        + chunk(b"IDAT", zlib.compress((b"\0" + bytes([grey]) * width) * height))
        + chunk(b"IEND", b"")
    )


def picture(content: bytes, caption: str = "Some triggers.", **more: Any) -> dict[str, Any]:
    return {"name": "triggers", "caption": caption, "png": base64.b64encode(content).decode(), **more}


def with_pictures(study: Study, found: Results, pictures: Callable[[str], list[Any]]) -> tuple[Study, Results]:
    """Records in which each mechanism alone has the pictures that are given for its name."""
    content = json.loads(json.dumps(to_plain(found)))
    for cell in content["cells"]:
        names = [named["name"] for named in json.loads(cell["key"])[1]]
        if len(names) == 1 and "suspect" not in cell:
            cell["evidence"] = pictures(names[0])
    return study, results_from(content)


def page_of(*given: Any) -> Element:
    page = read(render_html(find(*given, "strict")))
    sound(page)
    return page


def pictures_in(one: Element) -> list[str | None]:
    return [image.attributes["alt"] for image in one.all("img")]


@pytest.fixture(scope="module")
def shown() -> Element:
    own = {name: [picture(png(), f"Images of {name}.", width=24)] for name in "ap"}
    return page_of(*with_pictures(*everything(), lambda name: own.get(name, [])))


def test_a_picture_stands_in_the_details_of_every_combination_with_its_mechanism(shown):
    expected = {"a-b": "a", "a-c": "a", "b-c": "", "p-c": "p", "q-c": "", "a-b-c": "a", "p": "p"}
    captions = {"": [], "a": ["Images of a."], "p": ["Images of p."]}
    for id, mechanism in expected.items():
        body = section(shown, f"digits-smoke-{id}")
        assert pictures_in(body) == captions[mechanism], id
        assert [one.said for one in body.all("h4")].count(HEADING) == bool(mechanism)
    (figure,) = section(shown, "digits-smoke-a-b").all("figure", class_="picture")
    assert figure.all("figcaption")[0].said == "a: Images of a."
    (image,) = figure.all("img")
    assert image.attributes["src"] == "data:image/png;base64," + base64.b64encode(png()).decode()
    assert (image.attributes["width"], image.attributes["height"]) == ("24", "18"), "the shape is that of the picture"


def test_a_clash_shows_what_each_mechanism_puts_in_alone(shown):
    assert pictures_in(section(shown, "digits-smoke-p-q")) == ["Images of p."]


def test_records_without_pictures_show_no_trace_of_them():
    text = render_html(find(*everything(), "strict"))
    assert "<img" not in text
    assert HEADING not in text
    assert render_html(find(*with_pictures(*everything(), lambda _: []), "strict")) == text


@pytest.mark.parametrize(
    "entry",
    [
        picture(b"GIF89a" + png()[6:]),
        picture(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'></svg>"),
        picture(PNG),
        picture(PNG + bytes(20)),
        {**picture(png()), "png": "javascript:alert(1)"},
        {**picture(png()), "png": base64.b64encode(png()).decode()[:-1]},
        {**picture(png()), "png": ["x"]},
        {"name": "triggers", "caption": "Some triggers."},
        "triggers",
        None,
    ],
)
def test_what_is_no_picture_is_left_out(entry):
    page = page_of(*with_pictures(*everything(), lambda name: [entry, picture(png())] if name == "a" else []))
    assert pictures_in(section(page, "digits-smoke-a-b")) == ["Some triggers."]
    assert len(page.all("img")) == 3


@pytest.mark.parametrize("width", [None, "9", -1, 0, 10**9, True])
def test_a_width_that_makes_no_sense_is_not_followed(width):
    page = page_of(*with_pictures(*everything(), lambda name: [picture(png(), width=width)] if name == "a" else []))
    image = page.all("img")[0]
    assert (image.attributes["width"], image.attributes["height"]) == ("8", "6")


def test_words_of_plugins_stay_text():
    for words in (EVIL, QUOTED, "a\u202eb", "</figcaption><img src=x onerror=alert(1)>"):
        page = page_of(*with_pictures(*everything(), lambda name, words=words: [picture(png(), words)] * (name == "a")))
        body = section(page, "digits-smoke-a-b")
        visible = words.replace("\u202e", "\N{REPLACEMENT CHARACTER}")
        assert pictures_in(body) == [visible]
        assert body.all("figcaption")[-1].said == f"a: {visible}"
        assert set(page.all("img")[0].attributes) == {"src", "width", "height", "alt"}


def test_a_picture_without_a_caption_goes_by_its_name():
    page = page_of(*with_pictures(*everything(), lambda name: [picture(png(), "")] if name == "a" else []))
    assert pictures_in(section(page, "digits-smoke-a-b")) == ["triggers"]


def test_a_picture_that_was_too_large_is_named_with_its_size():
    large = {"name": "triggers", "caption": "All triggers.", "bytes": 300 * 1024}
    page = page_of(*with_pictures(*everything(), lambda name: [large] if name == "a" else []))
    assert page.all("img") == []
    (figure,) = section(page, "digits-smoke-a-c").all("figure", class_="picture")
    assert figure.said == "a: All triggers. Left out: it has 300 KiB. guardclash evidence writes it as a file."


def test_pictures_that_would_fill_the_page_stand_once(monkeypatch):
    content = png(padding=3000)
    given = with_pictures(*everything(), lambda name: [picture(content)] if name in "ap" else [])
    size = len("data:image/png;base64," + base64.b64encode(content).decode())
    monkeypatch.setattr(pictures_module, "ROOM", 3 * size)
    page = page_of(*given)
    assert len(page.all("img")) == 1
    assert pictures_in(section(page, "digits-smoke-a-b")) == ["Some triggers."]
    (figure,) = section(page, "digits-smoke-p-c").all("figure", class_="picture")
    assert figure.said == "p: Some triggers. The same picture is shown in digits/smoke {a, b}."
    assert figure.all("a")[0].attributes["href"] == "#digits-smoke-a-b"
    monkeypatch.setattr(pictures_module, "ROOM", size - 1)
    page = page_of(*given)
    assert page.all("img") == []
    assert "pictures fill this page" in section(page, "digits-smoke-a-b").said


@pytest.mark.slow
def test_the_largest_study_stays_small_with_pictures_as_large_as_they_may_be():
    wanted, found = committed(LARGEST)
    numbers = iter(range(1000))
    given = with_pictures(wanted, found, lambda _: [picture(png(padding=60_000 + next(numbers)))])
    text, plain = (render_html(find(*one, "strict")) for one in (given, with_pictures(wanted, found, lambda _: [])))
    assert "<img" in text
    assert "<img" not in plain
    assert len(text.encode()) < len(plain.encode()) + ROOM + 300_000 < 5_000_000
