"""The text of pages by raypt's own rules: what people read stays, once, as they read it; what surrounds it goes."""

import re
import unicodedata
from typing import Any

import pytest

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.html import html_to_text

MILL = (
    "The river bends twice before it reaches the old mill, and then it runs straight to the lake. In spring the water "
    "carries branches down from the hills and leaves them on the meadow."
)
VILLAGE = "村子旁边有一条河，河上有一座老桥，每天早上人们从桥上走过去上班。到了冬天，河面结了冰，孩子们在上面滑来滑去。"


def text_of(body: str, **config: Any) -> str:
    return html_to_text(f"<!DOCTYPE html><html><body>{body}</body></html>".encode(), "utf-8", HtmlConfig(**config))


def article(inner: str, **config: Any) -> str:
    """The text between two paragraphs of an article."""
    text = text_of(f"<article><h1>The mill</h1><p>{MILL}</p>{inner}<p>{MILL} End.</p></article>", **config)
    assert text.startswith(f"The mill\n\n{MILL}"), text
    assert text.endswith(f"{MILL} End."), text
    return text[len(f"The mill\n\n{MILL}") : -len(f"{MILL} End.")].strip()


# --- no character is lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["raypt", "resiliparse"])
@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("是<a href=/c>中国</a>的<a href=/s>首都</a>，", "是中国的首都，"),
        ("第<b>一</b>章", "第一章"),
        (
            "他是<a href=/b>北京</a>的<a href=/z>作家</a>，住在<a href=/h>海</a>边，写了<b>很</b>多书。",
            "他是北京的作家，住在海边，写了很多书。",
        ),
        ("<span>€</span>20, <b>€</b>5", "€20, €5"),
        ("<a href=/a>1990</a>–<a href=/b>1995</a> still <i>then</i>—<b>so</b>… on", "1990–1995 still then—so… on"),
        ("<a href=/b>北京</a>、<a href=/s>上海</a>和<a href=/g>广州</a>。", "北京、上海和广州。"),
        ("<b>私</b>は<i>猫</i>である。", "私は猫である。"),
        ("<b>나</b>는 <i>책</i>을 읽는다.", "나는 책을 읽는다."),
        ("<q>so</q>", "“so”"),
    ],
)
def test_signs_and_characters_that_stand_alone_between_tags_are_text(engine: str, inner: str, text: str) -> None:
    if engine == "resiliparse" and "<q>" in inner:
        text = "so"
    assert article(f"<p>{inner}</p>", engine=engine) == text


@pytest.mark.parametrize("engine", ["raypt", "resiliparse"])
def test_every_character_of_the_basic_plane_alone_between_tags_is_text(engine: str) -> None:
    characters = [
        chr(c)
        for c in range(0xA1, 0x10000)
        if unicodedata.category(chr(c)) not in ("Cc", "Cf", "Co", "Cs", "Cn", "Zs", "Zl", "Zp")
        and (c != 0xB6 or engine == "raypt")  # ¶: resiliparse takes it for a link to a heading
    ]
    assert len(characters) > 50_000
    paragraphs = "".join(
        "<p>" + "".join(f"a<b>{c}</b>" for c in characters[i : i + 100]) + "</p>"
        for i in range(0, len(characters), 100)
    )
    text = article(paragraphs, engine=engine)
    missing = [c for c in characters if f"a{c}a" not in text and f"a{c}\n" not in text and not text.endswith(f"a{c}")]
    assert missing == []


def test_icons_of_fonts_are_no_text() -> None:
    assert article("<p><i>\ue001</i>Call us<b>\uf8ff</b></p>") == "Call us"


@pytest.mark.parametrize(
    "text",
    [VILLAGE, "町の図書館では、①絵本の読み聞かせ、②古い地図の展示が毎週開かれている。髙橋さんは「はい」と言った。"],
)
def test_chinese_and_japanese_lose_no_character_however_it_is_marked_up(text: str) -> None:
    for step in (1, 2, 3, 5):
        parts = [text[i : i + step] for i in range(0, len(text), step)]
        tags = ["<a href=/x>{}</a>", "<b>{}</b>", "{}", "<span class=icon>{}</span>", "\n{}\n", "<font>{}</font>"]
        marked = "".join(tags[i % len(tags)].format(part) for i, part in enumerate(parts))
        assert article(f"<p>{marked}</p>") == text


def test_a_line_break_of_the_source_between_two_chinese_characters_is_none() -> None:
    assert (
        article("<p>桥修好的那天，\n  孩子们跑来\n跑去。\nThe\nend.</p>") == "桥修好的那天，孩子们跑来跑去。 The end."
    )


def test_soft_hyphens_go_and_no_break_spaces_are_spaces() -> None:
    assert article("<p>Zu\xadsam\xadmen 5&nbsp;km away\ufeff</p>") == "Zusammen 5 km away"


def test_time_abbreviations_marks_and_insertions_are_text() -> None:
    inner = (
        "<p>On <time datetime=2024-05-04>4 May 2024</time> the <abbr>EU</abbr> <mark>met</mark> <ins>here</ins>.</p>"
    )
    assert article(inner) == "On 4 May 2024 the EU met here."


# --- what surrounds the text -----------------------------------------------------------------------------------------

MENU = "".join(f"<li><a href=/{w}>{w}</a></li>" for w in ("Homepage", "Shop", "Contact", "Imprint"))


@pytest.mark.parametrize(
    "around",
    [
        f"<nav><ul>{MENU}</ul></nav>",
        f"<div id=menu><ul class=menu>{MENU}</ul></div>",
        f"<header><a href=/>Site</a><ul>{MENU}</ul></header>",
        f"<footer><ul>{MENU}</ul><p>All rights reserved 2026</p></footer>",
        f"<div class=sidebar><h2>Most read</h2><ul>{MENU}</ul></div>",
        f"<aside><h2>Most read</h2><ul>{MENU}</ul></aside>",
        f"<ul>{MENU}</ul>",
        "<div class='share-buttons'><a href=/t>Tweet</a> <a href=/f>Share</a></div>",
        "<div class=cookie-banner><p>We use cookies. By going on you agree to our use of them.</p></div>",
        "<form><label>Mail</label><input><button>Send</button><select><option>Imprint</select></form>",
        "<script>var Imprint = '<p>x</p>'</script><style>p { color: red }</style><noscript>Enable it</noscript>",
        "<div style='display: none'>Imprint</div><div hidden>Imprint</div><p aria-hidden=true>Imprint</p>",
        "<svg><text>Imprint</text></svg><iframe>Imprint</iframe><template><p>Imprint</template>",
    ],
)
def test_menus_side_bars_footers_and_controls_are_no_text(around: str) -> None:
    wanted = f"The mill\n\n{MILL}\n\n{MILL}"
    page = f"<article><h1>The mill</h1><p>{MILL}</p><p>{MILL}</p></article>"
    assert text_of(around + page) == wanted
    assert text_of(page + around) == wanted


def test_lists_of_an_article_are_text_and_lists_of_links_are_not() -> None:
    plain = "<ul><li>Two cups of flour</li><li>A pinch of <a href=/salt>salt</a></li></ul>"
    spans = "<ol start=3><li><span>Beat the egg</span></li><li>Wait<ul><li>at least half an hour</ul></li></ol>"
    links = f"<ul>{MENU}</ul>"
    wanted = "- Two cups of flour\n- A pinch of salt\n\n3. Beat the egg\n4. Wait\n  - at least half an hour"
    assert article(plain + spans + links) == wanted
    assert "Imprint" in article(plain + links, lists="all")
    assert article(plain + links, lists="none") == ""


def test_asides_footers_and_related_work_inside_an_article_are_text() -> None:
    assert article("<aside><p>A note beside the text.</p></aside>") == "A note beside the text."
    assert article("<footer><p>Written in the winter.</p></footer>") == "Written in the winter."
    assert article(f"<section id=related-work><h2>Related work</h2><p>{MILL}</p></section>").startswith("Related work")


@pytest.mark.parametrize(
    "slug", ["cookies", "comments", "navigation", "sharing", "footer", "related", "sponsors", "popup"]
)
def test_what_a_section_is_about_does_not_make_it_something_beside_the_text(slug: str) -> None:
    link = f'<a class="headerlink" href="#{slug}">#</a>'
    assert (
        article(f"<section id={slug}><h2>{slug}{link}</h2><p>About {slug}.</p></section>") == f"{slug}\n\nAbout {slug}."
    )
    assert article(f"<h2 id={slug}>{slug}</h2><p id=a-{slug}>About {slug}.</p>") == f"{slug}\n\nAbout {slug}."
    assert article(f"<dl><dt id=http.Request.{slug}>{slug}<dd>About it.</dl>") == f"{slug}\nAbout it."


@pytest.mark.parametrize(
    "heading",
    [
        '<h2 id=x><a class="header" href="#x">Words</a></h2>',
        "<h2 class=header>Words</h2>",
        "<h2><span class=nav>Words</span></h2>",
    ],
)
def test_headings_are_text_whatever_they_are_called(heading: str) -> None:
    assert text_of(f"<div id=content><h1>T</h1><p>{MILL}</p>{heading}<p>{MILL}</p></div>") == (
        f"T\n\n{MILL}\n\nWords\n\n{MILL}"
    )


def test_captions_are_text() -> None:
    inner = "<figure><img src=x alt=y><figcaption>The wheel in 1902</figcaption></figure>"
    assert article(inner) == "The wheel in 1902"
    assert article("<table><caption>Water</caption><tr><td>May<td>2</table>").startswith("Water\n")


def test_ingredients_that_can_be_ticked_off_are_text() -> None:
    items = ("<input type=checkbox> 50 g of butter", "<input type=checkbox>1 egg")
    inner = "".join(f"<li><label>{item}</label></li>" for item in items)
    assert article(f"<ul>{inner}</ul>") == "- 50 g of butter\n- 1 egg"


COMMENTS = "".join(f"<li class=comment><p>Comment {i}: {MILL}</p></li>" for i in range(12))


def test_comments_below_an_article_are_left_out_unless_asked_for_however_many() -> None:
    page = f"<article><h1>T</h1>{f'<p>{MILL}</p>' * 6}</article><section id=comments><ol>{COMMENTS}</ol></section>"
    assert "Comment 3" not in text_of(page)
    inside = f"<div><h1>T</h1>{f'<p>{MILL}</p>' * 6}<div class=comments><ol>{COMMENTS}</ol></div></div>"
    assert "Comment 3" not in text_of(inside)
    assert "Comment 3" in text_of(inside, comments=True)


def test_a_page_that_is_a_discussion_keeps_it() -> None:
    page = f"<h1>Who knows this mill?</h1><p>Is it open?</p><div id=comments><ol>{COMMENTS}</ol></div>"
    assert "Comment 3" in text_of(page)
    assert "Comment 11" in text_of(page)


def test_everything_visible_is_text_without_main_content() -> None:
    text = text_of(
        f"<nav><ul>{MENU}</ul></nav><p>{MILL}</p><footer>2026</footer><script>no</script>", main_content=False
    )
    assert text.split() == f"- Homepage - Shop - Contact - Imprint {MILL} 2026".split()


# --- how it is written -----------------------------------------------------------------------------------------------


def test_tables_of_data_are_pipes_and_their_head_is_underlined() -> None:
    table = (
        "<table><thead><tr><th>Month</th><th>Level | m</th></tr></thead><tbody><tr><td>May</td><td><p>2.1</p></td></tr>"
        "<tr><td colspan=2>none</td></tr><tr><td rowspan=2>June<td>3</tr><tr><td>4</table>"
    )
    assert article(table).split("\n") == [
        "| Month | Level \\| m |",
        "| --- | --- |",
        "| May | 2.1 |",
        "| none | |",
        "| June | 3 |",
        "| | 4 |",
    ]
    assert article(table, tables="text").split() == ["Month", "Level", "|", "m", "May", "2.1", "none", "June", "3", "4"]


def test_cells_of_a_table_with_a_head_may_be_links_alone() -> None:
    links = ", ".join(f"<a href=/{x}>{x}</a>" for x in ("dead-code", "path-statements", "unused-allocation"))
    table = (
        f"<table><tr><th>Group<th>Lints<tr><td><a href=/u>unused</a><td>{links}<tr><td><a href=/n>none</a><td></table>"
    )
    assert article(table).split("\n")[2:] == [
        "| unused | dead-code, path-statements, unused-allocation |",
        "| none | |",
    ]


def test_tables_that_lay_out_a_page_are_no_tables() -> None:
    menu = "".join(f"<a href=/{x}>{x}</a><br>" for x in ("Home", "Bees", "Links"))
    text = text_of(f"<table><tr><td>{menu}</td><td><h1>T</h1><p>{MILL}</p><p>{MILL}</p></td></tr></table>")
    assert "|" not in text
    assert text.startswith("T\n\n" + MILL)


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<pre><code class=language-python>if x:\n    y()\n</code></pre>", "```python\nif x:\n    y()\n```"),
        ("<pre class='lang-c'>int a;</pre>", "```c\nint a;\n```"),
        (
            "<div class=highlight-rust><div class=highlight>"
            "<pre><span></span><span>fn</span> x() {\n\t1 &lt; 2\n}</pre></div></div>",
            "```rust\nfn x() {\n\t1 < 2\n}\n```",
        ),
        ("<pre><code>a\n\n  b</code></pre>", "```\na\n\n  b\n```"),
        ("<pre><code>```\nx\n```</code></pre>", "````\n```\nx\n```\n````"),
        ("<pre>a poem\n  of two lines</pre>", "a poem\n  of two lines"),
    ],
)
def test_code_keeps_its_lines_and_stands_between_fences(markup: str, text: str) -> None:
    assert article(markup) == text
    inside = text.split("\n")[1:-1] if text.startswith("```") else text.split("\n")
    assert article(markup, code_fences=False) == "\n".join(inside)


def test_comments_of_programs_are_no_comments_of_readers() -> None:
    code = (
        '<pre><code><span class="hljs-comment">// why</span>\nint x; <span class="token comment">/* so */</span>\n'
        '<span class="nav">y</span><span class="comment"># z</span></code></pre>'
    )
    assert article(code) == "```\n// why\nint x; /* so */\ny# z\n```"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("x<sup>2</sup> + y<sup>n+1</sup>", "x² + yⁿ⁺¹"),
        ("H<sub>2</sub>O and a<sub>ij</sub>", "H₂O and a_ij"),
        ("10<sup>-3</sup>", "10⁻³"),
        ("the 4<sup>th</sup> of May", "the 4th of May"),
        ("e<sup>x/2</sup>", "e^(x/2)"),
        ("so<sup>[1]</sup> it is", "so[1] it is"),
    ],
)
def test_superscripts_stay_apart_from_what_they_stand_on(markup: str, text: str) -> None:
    assert article(f"<p>{markup}</p>") == text


MATHML = (
    '<math xmlns="http://www.w3.org/1998/Math/MathML"{}><semantics><mrow><mfrac><mi>a</mi><mn>2</mn></mfrac><mo>≤</mo>'
    "<msup><mi>x</mi><mn>2</mn></msup></mrow>{}</semantics></math>"
)
TEX = r"\frac{a}{2} \leq x^{2}"
ANNOTATION = f'<annotation encoding="application/x-tex">{TEX}</annotation>'


@pytest.mark.parametrize(
    "markup",
    [
        MATHML.format("", ANNOTATION),
        MATHML.format(f' alttext="{TEX}"', ""),
        # Wikipedia: MathML that is hidden, and an image.
        f'<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">'
        f"{MATHML.format('', ANNOTATION)}</span>"
        f'<img src="x.svg" class="mwe-math-fallback-image-inline" alt="{TEX}"></span>',
        # KaTeX: MathML, and the same drawn with spans.
        f'<span class="katex"><span class="katex-mathml">{MATHML.format("", ANNOTATION)}</span>'
        '<span class="katex-html" aria-hidden="true"><span class="mord">a</span><span>2</span><span>≤</span>x'
        "<span>2</span></span></span>",
        # MathJax 2: drawn, and the source in a script.
        f'<span class="MathJax_Preview">a/2</span><span class="MathJax" id="e1"><nobr>a2≤x2</nobr></span>'
        f'<script type="math/tex" id="e">{TEX}</script>',
        f'<script type="math/tex">{TEX}</script>',
        # Images of formulas.
        f'<img class="tex" alt="{TEX}" src="x.png">',
        f'<img class="latex" alt="${TEX}$" src="/latex.php?x">',
        f'<img alt="{TEX}" src="https://www.zhihu.com/equation?tex=x">',
        f'<img class="mwe-math-fallback-image-inline" alt="{{\\displaystyle {TEX}}}">',
    ],
)
def test_a_formula_comes_once_and_as_latex(markup: str) -> None:
    assert article(f"<p>So {markup} holds.</p>") == f"So ${TEX}$ holds."


def test_mathml_without_a_source_is_converted() -> None:
    assert article(f"<p>So {MATHML.format('', '')} holds.</p>") == r"So $\frac{a}{2}\leq x^2$ holds."
    display = MATHML.format(' display="block"', ANNOTATION)
    assert article(f"<p>So</p>{display}<p>holds.</p>") == f"So\n\n$${TEX}$$\n\nholds."


def test_a_formula_as_text_where_latex_is_not_asked_for() -> None:
    assert "$" not in article(f"<p>So {MATHML.format('', ANNOTATION)} holds.</p>", math=False)


def test_readings_stand_in_brackets_after_their_characters() -> None:
    ruby = "<p><ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>を<ruby>読<rt>よ</rt></ruby>む。</p>"
    assert article(ruby) == "漢字（かんじ）を読（よ）む。"
    assert article(ruby, ruby=False) == "漢字を読む。"


def test_links_and_title_where_asked_for() -> None:
    assert (
        article('<p>See <a href="https://a.org/?x=1&amp;y=2">this</a>.</p>', links=True)
        == "See [this](https://a.org/?x=1&y=2)."
    )
    page = f"<html><head><title>Old\n mills</title></head><body><p>{MILL}</p></body></html>".encode()
    assert html_to_text(page, "utf-8", HtmlConfig(title=True)) == f"Old mills\n\n{MILL}"


def test_selectors_leave_out_what_they_match() -> None:
    assert article("<p class=x>a</p><div id=y>b</div><p>c</p>", skip=(".x", "#y")) == "c"


def test_one_line_without_formatting() -> None:
    text = text_of(f"<p>{MILL}</p><ul><li>a</ul>", preserve_formatting=False)
    assert "\n" not in text


def test_line_breaks_and_blocks() -> None:
    assert article("<p>one<br>two<br><br>three</p><div>four</div><div>five</div>") == "one\ntwo\n\nthree\n\nfour\nfive"
    assert (
        article("<dl><dt>Term</dt><dd>What it means</dd></dl><blockquote>So</blockquote>")
        == "Term\nWhat it means\n\nSo"
    )


# --- pages as they come ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["raypt", "resiliparse"])
@pytest.mark.parametrize(
    "page",
    [b"", b"   ", b"<html>", b"<p", b"<!--", b"<![CDATA[x]]>", b"<frameset><frame src=x></frameset>"],
)
def test_pages_without_anything_have_no_text(engine: str, page: bytes) -> None:
    assert html_to_text(page, None, HtmlConfig.model_validate({"engine": engine})) == ""


def test_malformed_markup_keeps_its_text() -> None:
    page = (
        f"<body><div><p>{MILL}<p>One <b>two <i>three</b> four</i><table><tr><td>five</div></p></table>six<li>7</body> 8"
    )
    assert re.findall(r"\w+", text_of(page))[-8:] == ["One", "two", "three", "four", "five", "six", "7", "8"]


def test_entities_are_characters() -> None:
    assert (
        article("<p>a &lt;b&gt; &amp;amp; &quot;c&quot; &mdash; &#x4e2d;&#25991; &copy;</p>")
        == 'a <b> &amp; "c" — 中文 ©'
    )


def test_text_comes_out_the_same_in_every_order_of_pages() -> None:
    pages = [f"<article><h1>{i}</h1><p>{MILL * (i + 1)}</p></article>" for i in range(5)]
    forwards = [text_of(page) for page in pages]
    assert [text_of(page) for page in reversed(pages)] == forwards[::-1]
