"""Chinese minimal pairs: classifiers (which agree with the noun), order, negation."""

import random
from typing import Any

from raypt.training.made.frames import draw

PEOPLE = (
    "老师", "学生", "医生", "工人", "孩子", "朋友", "作家", "读者", "司机", "农民", "妈妈", "爸爸", "姐姐", "弟弟",
    "邻居", "工程师", "用户", "同学",
)  # fmt: skip
CLASSIFIED = {
    "本": ("书", "词典", "小说", "杂志"),
    "条": ("河", "路", "毛巾", "裙子"),
    "张": ("桌子", "纸", "照片", "床", "地图"),
    "辆": ("汽车", "自行车", "卡车"),
    "只": ("猫", "鸟", "兔子", "羊"),
    "座": ("山", "桥", "城市", "寺庙"),
    "件": ("衣服", "礼物", "衬衫", "大衣"),
    "棵": ("树", "白菜"),
    "封": ("信",),
    "朵": ("云", "浪花"),
}
NUMBERS = ("一", "两", "三", "四", "五", "那", "这", "几")
ADJECTIVES = ("红色", "新", "重要", "漂亮", "有名", "简单", "普通", "古老")
THINGS = ("书", "汽车", "信", "衣服", "照片", "礼物", "电脑", "杂志", "地图", "花")
DONE = ("看", "买", "写", "找", "拿", "卖", "送", "用", "借", "带")
STATES = ("是学生", "是医生", "是老师", "喜欢音乐", "认识他", "知道这件事", "想回家", "会游泳", "能来", "愿意去")
PLACES = ("家里", "学校", "北京", "图书馆", "公园", "办公室", "城里", "上海")
DOING = ("工作", "学习", "看书", "休息", "吃饭", "开会", "写信", "上课")


def _classifier(r: random.Random) -> tuple[str, str]:
    right, wrong = r.sample(sorted(CLASSIFIED), 2)
    who, number, noun = r.choice(PEOPLE), r.choice(NUMBERS), r.choice(CLASSIFIED[right])
    return f"{who}看见了{number}{right}{noun}。", f"{who}看见了{number}{wrong}{noun}。"


def _after_number(r: random.Random) -> tuple[str, str]:
    """Between a number and its noun a classifier must stand."""
    right = r.choice(sorted(CLASSIFIED))
    who, number, noun = r.choice(PEOPLE), r.choice(NUMBERS[:5]), r.choice(CLASSIFIED[right])
    return f"{who}有{number}{right}{noun}。", f"{who}有{number}{noun}{right}。"


def _attribute(r: random.Random) -> tuple[str, str]:
    who, a, thing = r.choice(PEOPLE), r.choice(ADJECTIVES), r.choice(THINGS)
    verb = r.choice(("有", "买了", "喜欢", "找到了"))
    return f"{who}{verb}{a}的{thing}。", f"{who}{verb}{thing}的{a}。"


def _place(r: random.Random) -> tuple[str, str]:
    who, place, doing = r.choice(PEOPLE), r.choice(PLACES), r.choice(DOING)
    return f"{who}在{place}{doing}。", f"{who}{doing}{place}在。"


def _adverb(r: random.Random) -> tuple[str, str]:
    who, state, adverb = r.choice(PEOPLE), r.choice(STATES), r.choice(("都", "也", "还"))
    return f"{who}们{adverb}{state}。", f"{adverb}{who}们{state}。"


def _have(r: random.Random) -> tuple[str, str]:
    """有 is negated by 没."""
    who, thing = r.choice(PEOPLE), r.choice(THINGS)
    when = r.choice(("", "现在", "以前", "今天", "家里"))
    return f"{who}{when}没有{thing}。", f"{who}{when}不有{thing}。"


def _be(r: random.Random) -> tuple[str, str]:
    """是 and verbs of state are negated by 不."""
    who, state = r.choice(PEOPLE), r.choice(STATES[:6])
    return f"{who}不{state}。", f"{who}没{state}。"


def _place_of_not(r: random.Random) -> tuple[str, str]:
    who, verb, thing, word = r.choice(PEOPLE), r.choice(DONE), r.choice(THINGS), r.choice(("不", "没"))
    return f"{who}{word}{verb}{thing}。", f"{who}{verb}{word}{thing}。"


FRAMES = {
    "zh agreement: classifier": _classifier,
    "zh agreement: number and noun": _after_number,
    "zh order: attribute": _attribute,
    "zh order: place": _place,
    "zh order: adverb": _adverb,
    "zh negation: have": _have,
    "zh negation: be": _be,
    "zh negation: place": _place_of_not,
}


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """`good`, `bad`, `phenomenon`."""
    return draw(FRAMES, count, seed)
