"""Stop words by language, and a hash table of them for compiled kernels.

English has Gopher's eight words. The others are short lists of the most frequent function words; where a script is
written without spaces they are single characters, since there a character is a token.
"""

from dataclasses import dataclass

import numpy as np

from raypt.curation import languages as tongues
from raypt.text.hashing import hash_bytes

STOP_WORDS: dict[str, tuple[str, ...]] = {
    language: tuple(words.split())
    for language, words in {
        "en": "the be to of and that have with",
        "zh": "的 是 在 了 不 和 有 我 这 這 人 为 為 以 也 他 就 及 与 與 于 於 之 或 等 中 上 個 个 可 到 会 會",
        "yue": "的 係 喺 咗 唔 同 有 我 呢 嘅 人 為 以 佢 就 與 於 之",
        "wuu": "的 是 在 了 弗 勿 和 有 我 个 搭 佢 為 为",
        "ja": "の に は を た が で て と し れ さ も な る ま す",
        "th": "ท า น ก ร ม เ แ ไ ว ล",
        "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden",
        "fr": "de la le et les des en un une du dans est que pour qui a par sur au il ne pas ce se plus",
        "es": "de la que el en y a los se del las un por con no una su para es al lo como más",
        "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como",
        "it": "di e il la che in un a per è una del non con i le da si della dei al come",
        "nl": "de van een het en in is dat op te zijn met voor niet aan er die om als ook",
        "sv": "och i att det som en på är av för med till den inte om ett har de",
        "da": "og i at det er en til af den på for med de som ikke der et har",
        "no": "og i det er til av en på som for med at har de ikke den et om",
        "fi": "ja on ei se että oli hän joka ovat mutta kun myös tai niin sen",
        "pl": "i w na z się do nie to że jest o jak po co dla za od przez ma",
        "cs": "a v se na je že o s z do i to k ve pro za by ale si po",
        "sk": "a v sa na je že o s z do aj to k vo pre za by ale si po",
        "hu": "a az és hogy nem is egy ez van meg de csak volt már ha mint",
        "ro": "și de în a la cu pe un o nu este că din se care pentru mai sau",
        "ru": "и в не на я что с он как это по но к из у за от для о так же а",
        "uk": "і в не на що з як це до за та у від для про є або але та й",
        "bg": "и на в за да се не от с по е са че като или но до при",
        "sr": "и је у да се на су за од са као није који а i je u da se na su za od sa kao nije koji a",
        "hr": "i je u da se na su za od s kao nije koji a o što bi",
        "el": "και το να του η της με που την από για είναι τα στο ο των σε δεν οι τον",
        "tr": "ve bir bu da de için ile çok gibi olarak daha olan ne kadar ama var en",
        "ar": "في من على أن إلى و التي عن مع هذا لا ما هذه كان الذي أو بين كل",
        "fa": "و در به از که این را با است برای آن یک تا بر هم شده ها",
        "he": "של על את לא זה עם הוא כי גם או היא אם כל יש היה רק",
        "hi": "के में की है और से का को पर यह कि हैं नहीं एक भी लिए ने इस",
        "bn": "এবং ও করে এই এর থেকে একটি জন্য না হয় সে যে কি করা",
        "ko": "이 그 및 수 것 있는 있다 등 또는 한 는 은 를 을 하는 대한 위해",
        "vi": "và của là có trong được cho các với không một người này để những đã từ",
        "id": "yang dan di dari untuk dengan pada ini itu adalah dalam tidak akan ke sebagai oleh",
        "ms": "yang dan di dari untuk dengan pada ini itu adalah dalam tidak akan ke sebagai oleh",
        "ca": "de la i el que a en els les del per un una amb és no al es",
        "ta": "ஒரு என்று மற்றும் இந்த இது அந்த என்ற அவர் பல",
        "eo": "la de kaj en al estas ne ke por kun pri el li tio",
    }.items()
}


def stop_words(given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The built-in lists with those of a configuration, which win; an empty list switches the rule off."""
    return tongues.over(STOP_WORDS, given)


def _cases(word: str) -> set[str]:
    return {word, word.lower(), word.capitalize(), word.upper()}


@dataclass(frozen=True)
class StopWordTable:
    """Open-addressing tables of word hashes, one a language; `bits[slot]` is the word's own bit, 0 in an empty slot.

    A table is followed by empty slots, so probing needs no wrap-around. Shapes: starts int64[K], masks uint64[K],
    hashes uint64[S], bits uint64[S].
    """

    languages: dict[str, int]
    starts: np.ndarray
    masks: np.ndarray
    hashes: np.ndarray
    bits: np.ndarray

    @classmethod
    def build(cls, words: dict[str, tuple[str, ...]], *, any_case: bool = False) -> "StopWordTable":
        """Tables of the words as they are, or (`any_case`) in small letters, capitalised and in capitals too."""
        languages: dict[str, int] = {}
        starts: list[int] = []
        masks: list[int] = []
        hashes: list[np.ndarray] = []
        bits: list[np.ndarray] = []
        total = 0
        for language, unsorted in words.items():
            if not unsorted:
                continue
            distinct = sorted(set(unsorted))
            if len(distinct) > 64:
                raise ValueError(f"stop_words.{language}: {len(distinct)} words; at most 64 are allowed")
            forms = {w: i for i, word in enumerate(distinct) for w in (_cases(word) if any_case else (word,))}
            size = 1 << (2 * len(forms)).bit_length()
            table, bit = np.zeros(size + len(forms) + 1, np.uint64), np.zeros(size + len(forms) + 1, np.uint64)
            for word, i in forms.items():
                data = np.frombuffer(word.encode(), np.uint8)
                h = int(hash_bytes(data, 0, len(data)))
                slot = h & (size - 1)
                while bit[slot]:
                    slot += 1
                table[slot], bit[slot] = h, 1 << i
            languages[language] = len(starts)
            starts.append(total)
            masks.append(size - 1)
            hashes.append(table)
            bits.append(bit)
            total += len(table)
        empty = [np.zeros(1, np.uint64)]
        return cls(
            languages,
            np.array(starts, np.int64),
            np.array(masks, np.uint64),
            np.concatenate(hashes or empty),
            np.concatenate(bits or empty),
        )

    def index(self, languages: list[str | None]) -> np.ndarray:
        """int64[n]: the table of each document's language, by any code, -1 if it has none."""
        table = {label: tongues.match(label, self.languages) for label in set(languages)}
        return np.array([-1 if (key := table[x]) is None else self.languages[key] for x in languages], np.int64)
