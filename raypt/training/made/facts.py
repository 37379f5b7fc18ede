"""Facts to be completed: a prompt, the right answer, three wrong ones of the same table."""

import random
from typing import Any

ENGLISH: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "en fact: capital": ("The capital of {} is", (
        ("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo"),
        ("China", "Beijing"), ("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("Austria", "Vienna"),
        ("England", "London"), ("Portugal", "Lisbon"), ("Poland", "Warsaw"), ("Ireland", "Dublin"),
        ("Cuba", "Havana"), ("Norway", "Oslo"),
    )),
    "en fact: month": ("The month after {} is", (
        ("January", "February"), ("February", "March"), ("March", "April"), ("April", "May"), ("May", "June"),
        ("June", "July"), ("July", "August"), ("August", "September"), ("September", "October"),
        ("October", "November"), ("November", "December"), ("December", "January"),
    )),
    "en fact: opposite": ("The opposite of {} is", (
        ("true", "false"), ("left", "right"), ("large", "small"), ("open", "closed"), ("first", "last"),
        ("hot", "cold"), ("high", "low"), ("old", "new"), ("begin", "end"), ("empty", "full"), ("fast", "slow"),
        ("good", "bad"), ("input", "output"), ("read", "write"), ("positive", "negative"), ("minimum", "maximum"),
    )),
    "en fact: computing": ("In computing, {} stands for", (
        ("CPU", "central processing unit"), ("URL", "uniform resource locator"),
        ("API", "application programming interface"), ("HTML", "hypertext markup language"),
        ("GPU", "graphics processing unit"),
        ("IP", "internet protocol"), ("OS", "operating system"), ("RAM", "random access memory"),
        ("GUI", "graphical user interface"), ("XML", "extensible markup language"),
        ("SQL", "structured query language"),
        ("ASCII", "American standard code for information interchange"),
    )),
    "en fact: colour": ("The colour of {} is", (
        ("snow", "white"), ("blood", "red"), ("grass", "green"), ("the sky", "blue"), ("coal", "black"),
        ("a lemon", "yellow"), ("chocolate", "brown"), ("ash", "grey"),
    )),
}  # fmt: skip
CHINESE: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "zh fact: capital": ("{}的首都是", (
        ("法国", "巴黎"), ("德国", "柏林"), ("意大利", "罗马"), ("西班牙", "马德里"), ("日本", "东京"),
        ("中国", "北京"), ("俄罗斯", "莫斯科"), ("埃及", "开罗"), ("希腊", "雅典"), ("奥地利", "维也纳"),
        ("英国", "伦敦"), ("葡萄牙", "里斯本"), ("波兰", "华沙"), ("泰国", "曼谷"), ("古巴", "哈瓦那"),
        ("韩国", "首尔"),
    )),
    "zh fact: opposite": ("“{}”的反义词是", (
        ("大", "小"), ("多", "少"), ("高", "低"), ("长", "短"), ("新", "旧"), ("左", "右"), ("前", "后"),
        ("上", "下"), ("快", "慢"), ("冷", "热"), ("开", "关"), ("好", "坏"), ("黑", "白"), ("远", "近"),
    )),
    "zh fact: author": ("《{}》的作者是", (
        ("红楼梦", "曹雪芹"), ("西游记", "吴承恩"), ("三国演义", "罗贯中"), ("水浒传", "施耐庵"), ("史记", "司马迁"),
        ("静夜思", "李白"), ("春望", "杜甫"), ("呐喊", "鲁迅"), ("骆驼祥子", "老舍"), ("家", "巴金"),
        ("边城", "沈从文"), ("聊斋志异", "蒲松龄"),
    )),
    "zh fact: province": ("{}省的省会是", (
        ("四川", "成都"), ("广东", "广州"), ("湖北", "武汉"), ("江苏", "南京"), ("浙江", "杭州"), ("山东", "济南"),
        ("陕西", "西安"), ("云南", "昆明"), ("湖南", "长沙"), ("福建", "福州"), ("吉林", "长春"), ("贵州", "贵阳"),
    )),
}  # fmt: skip
WRONG = 3


def questions(language: str, seed: int) -> list[dict[str, Any]]:
    """`prompt`, `choices`, `answer`, `phenomenon`; the wrong answers are drawn."""
    rng = random.Random(seed)
    before = " " if language == "en" else ""
    out = []
    for phenomenon, (frame, table) in (ENGLISH if language == "en" else CHINESE).items():
        for about, right in table:
            others = sorted({answer for _, answer in table} - {right, about})
            choices = [right, *rng.sample(others, WRONG)]
            rng.shuffle(choices)
            row = {"prompt": frame.format(about), "choices": [before + c for c in choices]}
            out.append(row | {"answer": choices.index(right), "phenomenon": phenomenon})
    return out
