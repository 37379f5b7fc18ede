"""Random text for property tests: all of Unicode, and short alphabets that make repetition and edge cases likely."""

from hypothesis import strategies as st

ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
NEWLINES = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
DENSE_ALPHABET = "aAb1 .\n-'s,:/#•…[]{\u0301中の。ไ่ \t" + NEWLINES
DENSE = st.text(st.sampled_from(DENSE_ALPHABET), max_size=120)
WORDS = st.lists(
    st.sampled_from(
        ["the", "cat", "of", "to", "U.S.", "J.", "3.11", "well-known", "http://a.b/c-d", "it's", "...", "…", "—", "\n",
         "\n\n", "[1]", "[edit]", "[citation needed]", "lorem ipsum", "JavaScript", "{", "cookie policy", "你好。",
         "世界", "，", "ありがとう", "ภาษาไทย", "ไม่ดี", "the end.", "Why?!", "“so”", "•", "- item", "\u2028", "😀", "𝒳𝒴",
         "e\u0301"]
    ),
    max_size=60,
).map(" ".join)  # fmt: skip
TEXT = ANY | DENSE | WORDS
BATCH = st.lists(TEXT, max_size=6)
