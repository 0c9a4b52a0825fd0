"""Pages of any room extend the one base, escape what they are given, and miss no value."""

import jinja2
import pytest

from avgen.evaluation.report.templates import render


def test_a_page_elsewhere_extends_the_base_and_escapes(tmp_path):
    page = tmp_path / "page.html.jinja"
    page.write_text(
        '{% extends "base.html.jinja" %}{% from "base.html.jinja" import table %}'
        "{% block title %}{{ name }}{% endblock %}{% block style %}b { color: red }{% endblock %}"
        '{% block body %}{{ table(["clip"], [[name]]) }}{% endblock %}'
    )
    text = render(page, name='<a> & "b"')
    assert text.lstrip().startswith("<!doctype html>")
    assert text.count("&lt;a&gt; &amp; &#34;b&#34;") == 2 and "<a>" not in text
    assert "<td>&lt;a&gt;" in text and "b { color: red }" in text
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render(page)


def test_markdown_is_not_escaped_but_its_cells_are(tmp_path):
    page = tmp_path / "page.md.jinja"
    page.write_text("| {{ text | cell }} | {{ found | interval }} | {{ none | number }} |\n")
    found = {"mean": 0.4217, "interval": [0.38, 0.471], "n": 10}
    text = render(page, text="a|b <c>", found=found, none=None)
    assert text == "| a\\|b <c> | 0.422 [0.38, 0.471] (n 10) | - |\n"
