"""Pages that are made to be slow: what is cut is no text, and what is left takes time in proportion to its bytes."""

import random
import time

import pytest

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.html.tame import MAX_ATTRIBUTES, MAX_OPTIONS, SMALL, tame

TEXT = b"<p>The river bends twice before it reaches the old mill, and then it runs straight to the lake.</p>" * 4
HOSTILE = {
    "attributes": b"<div " + b" ".join(b"a%d=1" % i for i in range(100_000)) + b">" + TEXT + b"</div>",
    "options": TEXT + b"<select>" + b"<option>x" * 200_000 + b"</select>",
    "optgroups": TEXT + b"<select>" + b"<optgroup>" * 100_000 + b"</select>",
    "depth": b"<div>" * 200_000 + TEXT,
    "inline depth": b"<b>" * 100_000 + TEXT,
    "fonts": b"<font size=1>x</p>" * 20_000 + TEXT,
    "paragraphs": b"<p>" * 1_000_000 + TEXT,
    "tables": b"<table><tr><td>" * 2_000 + TEXT,
    "unclosed attribute": TEXT + b'<a href="' + b"x" * 1_000_000,
    "entities": TEXT + b"&amp;&lt;&#x41;" * 100_000,
    "comment": TEXT + b"<!--" + b"-" * 1_000_000,
    "lists": TEXT + b"<ul><li>" * 20_000,
    "formulas": TEXT + b"<math><mfrac>" * 20_000,
    "sup": TEXT + b"<p>x" + b"<sup>2" * 50_000,
    "classes": TEXT + b'<div class="' + b"nav a-b-c " * 100_000 + b'">x</div>',
    "headings": TEXT + b"<section id=cookies>" * 2_000 + b"<h2>x",
    "labels": TEXT + b"<div>" * 2_000 + b"<label> </label>" * 20_000,
    "cells": TEXT + b"<table><tr>" + b"<td>x" * 200_000,
    "spans": TEXT + b"<table><tr>" + b"<td colspan=1000 rowspan=1000>x" * 20_000,
    "ruby": TEXT + b"<ruby>" + b"x<rt>y" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_made_to_be_slow_takes_seconds_at_most_and_keeps_its_text(name: str) -> None:
    html_to_text(TEXT, "utf-8", HtmlConfig())
    start = time.process_time()
    text = html_to_text(HOSTILE[name], "utf-8", HtmlConfig())
    # Under 2 s each, where untamed attributes and options take minutes; a busy machine may be some times slower.
    assert time.process_time() - start < 8
    assert "The river bends twice before it reaches the old mill" in text


def test_what_is_no_text_is_cut_and_nothing_else() -> None:
    long = b" " * SMALL
    tag = b"<div " + b" ".join(b"a%d='>'" % i for i in range(MAX_ATTRIBUTES + 5)) + b"><p>kept</div>" + long
    cut = tame(tag)
    assert cut.count(b"=") == MAX_ATTRIBUTES
    assert cut.endswith(b"><p>kept</div>" + long)
    options = b"<select>" + b"<option>o" * (MAX_OPTIONS + 5) + b"</select><p>kept" + long
    assert tame(options).count(b"<option") == MAX_OPTIONS
    assert tame(options).endswith(b"</select><p>kept" + long)


def test_usual_pages_stay_as_they_are_byte_for_byte() -> None:
    source = random.Random(0)
    parts = [
        b"<a href='x>y'>",
        b"<p ",
        b">",
        b"text ",
        b"<option value=1>",
        b"<!-- <b -->",
        b'"',
        b"'",
        b"=",
        b"< b",
        b"</",
    ]
    for _ in range(50):
        page = b"".join(source.choices(parts, k=2_000)) + b" " * SMALL
        assert tame(page) == page
