"""Writes records.jsonl: 64 invented records in fr, en, ru, zh with the raw text they could be made from.

All works, people, publishers and numbers are made up here (a made-up ISBN may by chance be someone's); licence as the project.
Items are checked by the model that wrote them, not by cataloguers. Run: ``python tests/rewards/unimarc/make_records.py``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from posttrain.rewards.unimarc.corruption import corrupt
from posttrain.rewards.unimarc.record import Record, control, data, from_marcxml, to_lines

KINDS = [
    "monograph", "translation", "multi-author", "corporate", "serial", "no-isbn", "monograph", "translation",
    "monograph", "multi-author", "edited", "no-isbn", "series", "monograph", "corporate", "serial",
]  # fmt: skip

WORDS = {
    "fr": {
        "code": "fre", "country": "FR", "script": "ba", "by": "par {}", "tr": "traduit par {}", "ed": "sous la direction de {}",
        "p": "{} p.", "cm": "{} cm", "original": "Traduit de l'anglais", "from": "eng", "pages": "{} pages, {} cm", "isbn": "978-2",
        "titles": ["Les ponts de la Creuse", "Lumière et brume sur la lande", "Atlas des vents marins", "Rapport sur les eaux de source",
                   "Carnets de botanique alpine", "La fabrique des horloges", "Une enfance dans les salines", "Le chant des scieries",
                   "Petite histoire du papier bleu", "Géographie des marchés flottants", "Études sur la laine et la teinture",
                   "Chansons de charretiers", "Théorie des jardins suspendus", "Manuel du sourcier", "Bilan des forêts communales",
                   "Cahiers de la cartographie"],
        "subjects": ["Ponts", "Landes", "Vents", "Sources", "Botanique", "Horlogerie", "Salines", "Scieries", "Papier", "Marchés",
                     "Laine", "Chansons", "Jardins", "Hydrologie", "Forêts", "Cartographie"],
        "people": [("Ferrandel", "Odile"), ("Maubrac", "Étienne"), ("Vautrelle", "Simone"), ("Quénardel", "Luc"), ("Thibersac", "Anne"),
                   ("Lormeau", "Basile"), ("Dessauvage", "Irène"), ("Courtebois", "Paul")],
        "houses": [("Paris", "Éditions du Sablier"), ("Lyon", "Presses de la Saône"), ("Rennes", "L'Ajonc"), ("Grenoble", "Belledonne"),
                   ("Arles", "Le Mistral")],
        "bodies": ["Société des eaux vives", "Institut du paysage"], "note": "Contient un index", "other": "essai",
        "source": "{title}. {by}. {place}, {house}, {year}. {pages}. {extra}",
    },
    "en": {
        "code": "eng", "country": "GB", "script": "ba", "by": "by {}", "tr": "translated by {}", "ed": "edited by {}",
        "p": "{} p.", "cm": "{} cm", "original": "Translated from the French", "from": "fre", "pages": "{} pages, {} cm", "isbn": "978-1",
        "titles": ["The ferrymen of Arran", "A winter among the kilns", "Tide tables and other letters", "Report on the peat roads",
                   "The weaver's arithmetic", "Owls of the lower valley", "On mending old clocks", "The lighthouse accounts",
                   "Notes towards a grammar of rivers", "Salt, rope and tar", "Papers on drystone walling", "Hymns of the tin streets",
                   "The slow canal", "An orchard in four seasons", "Survey of village wells", "Journal of hedge studies"],
        "subjects": ["Ferries", "Pottery", "Tides", "Peat", "Weaving", "Owls", "Clocks", "Lighthouses", "Rivers", "Rope", "Walls",
                     "Hymns", "Canals", "Orchards", "Wells", "Hedges"],
        "people": [("Penhallow", "Ruth"), ("Askwright", "Tobias"), ("Lindgarth", "Mary"), ("Oxenholt", "Samuel"), ("Trevarne", "Jane"),
                   ("Mossop", "Edgar"), ("Calderwick", "Nora"), ("Fennimore", "Hugh")],
        "houses": [("London", "Harrow Lane"), ("Oxford", "Isis House"), ("Edinburgh", "Thistle & Quill"), ("Manchester", "Irwell Books"),
                   ("Cambridge", "Fenland")],
        "bodies": ["Society of Rural Engineers", "Institute of Coastal Paths"], "note": "Includes an index", "other": "a memoir",
        "source": "{title}. {by}. {place}: {house}, {year}. {pages}. {extra}",
    },
    "ru": {
        "code": "rus", "country": "RU", "script": "ca", "by": "{}", "tr": "перевод {}", "ed": "под редакцией {}",
        "p": "{} с.", "cm": "{} см", "original": "Перевод с английского", "from": "eng", "pages": "{} с., {} см", "isbn": "978-5",
        "titles": ["Паромы северных рек", "Зима на соляных промыслах", "Письма о ветре и парусе", "Отчёт о лесных дорогах",
                   "Очерки деревянного зодчества", "Птицы нижней долины", "Часовое дело в провинции", "Маяки Белого моря",
                   "Грамматика речных названий", "Лён, пенька и дёготь", "Труды по кладке печей", "Песни ямщиков",
                   "Тихий канал", "Яблоневый сад", "Обзор сельских колодцев", "Вестник картографии"],
        "subjects": ["Паромы", "Соль", "Парусники", "Дороги", "Зодчество", "Птицы", "Часы", "Маяки", "Топонимика", "Лён", "Печи",
                     "Песни", "Каналы", "Садоводство", "Колодцы", "Картография"],
        "people": [("Верхогляд", "Анна"), ("Соловьянов", "Пётр"), ("Лукомская", "Вера"), ("Зарубинский", "Илья"), ("Тихоречина", "Ольга"),
                   ("Морошкин", "Глеб"), ("Перевалова", "Нина"), ("Студёнов", "Иван")],
        "houses": [("Москва", "Полынья"), ("Санкт-Петербург", "Невский фонарь"), ("Казань", "Волжский берег"), ("Новосибирск", "Обь")],
        "bodies": ["Общество речников", "Институт ландшафта"], "note": "Имеется указатель", "other": "очерки",
        "source": "{title} / {by}. {place}: {house}, {year}. {pages}. {extra}",
    },
    "zh": {
        "code": "chi", "country": "CN", "script": "ea", "by": "{}著", "tr": "{}译", "ed": "{}主编",
        "p": "{}页", "cm": "{}厘米", "original": "译自英文", "from": "eng", "pages": "{}页 ; {}厘米", "isbn": "978-7",
        "titles": ["江上渡船记", "盐场的冬天", "潮汐书简", "山林道路报告", "木构建筑札记", "下河谷的鸟", "修钟匠手册", "灯塔账本",
                   "河名考略", "麻绳与桐油", "砌石论文集", "船工号子", "慢运河", "四季果园", "乡村水井调查", "舆图学刊"],
        "subjects": ["渡船", "盐业", "潮汐", "道路", "建筑", "鸟类", "钟表", "灯塔", "地名", "绳索", "砌石", "民歌", "运河", "果园",
                     "水井", "地图"],
        "people": [("林", "远舟"), ("沈", "若溪"), ("顾", "怀山"), ("陆", "知秋"), ("韩", "望川"), ("谢", "听雨"),
                   ("曹", "青禾"), ("白", "鹤鸣")],
        "houses": [("北京", "白塔出版社"), ("上海", "江声书局"), ("广州", "木棉出版社"), ("南京", "秦淮书社")],
        "bodies": ["内河航运学会", "山水研究所"], "note": "附索引", "other": "随笔",
        "source": "《{title}》 {by} {place}: {house}, {year}. {pages}. {extra}",
    },
}  # fmt: skip


def isbn(prefix: str, rng: random.Random) -> str:
    """A 13-digit number with a right check digit."""
    publisher, item = f"{rng.randrange(1000, 9999)}", f"{rng.randrange(1000, 9999)}"
    digits = [int(c) for c in (prefix + publisher + item).replace("-", "")]
    return f"{prefix}-{publisher}-{item}-{-sum((1, 3)[i % 2] * d for i, d in enumerate(digits)) % 10}"


def issn(rng: random.Random) -> str:
    """An 8-digit number with a right check digit."""
    digits = [rng.randrange(10) for _ in range(7)]
    check = -sum((8 - i) * d for i, d in enumerate(digits)) % 11
    body = "".join(map(str, digits)) + ("X" if check == 10 else str(check))
    return f"{body[:4]}-{body[4:]}"


def full(name: tuple[str, str], language: str) -> str:
    return name[0] + name[1] if language == "zh" else f"{name[1]} {name[0]}"


def make(language: str, n: int, rng: random.Random) -> tuple[Record, str]:
    w, kind = WORDS[language], KINDS[n]
    title, subject = w["titles"][n], w["subjects"][n]
    author, second, third = rng.sample(w["people"], 3)
    place, house = w["houses"][n % len(w["houses"])]
    year, pages, size = str(rng.randrange(1962, 2023)), str(rng.randrange(64, 640)), str(rng.randrange(17, 31))
    serial, translation, body = kind == "serial", kind == "translation", w["bodies"][n % 2]
    ind = "1" if translation else "0"
    dates = f"a{year}9999" if serial else f"d{year}    "
    entered = f"{int(year) + 1}0{rng.randrange(1, 9)}1{rng.randrange(0, 9)}"
    coded = f"{entered}{dates}k  y0{w['code']}y50      {w['script']}"
    f = [control("001", f"pt{language}{n:04d}"), control("005", f"{int(year) + 2}0301120000.0")]
    extra: list[str] = []
    number = issn(rng) if serial else isbn(w["isbn"], rng)
    if kind != "no-isbn":
        f.append(data("011" if serial else "010", "  ", ("a", number)))
        extra.append(("ISSN " if serial else "ISBN ") + number)
    f.append(data("100", "  ", ("a", coded)))
    f.append(data("101", f"{ind} ", ("a", w["code"]), *([("c", w["from"])] if translation else [])))
    f.append(data("102", "  ", ("a", w["country"])))
    people, access = [full(author, language)], [("700", author, "070")]
    if kind in ("multi-author", "edited"):
        people.append(full(second, language))
        access.append(("701", second, "070"))
    by = w["by"].format(", ".join(people))
    if kind == "edited":
        by, access = w["ed"].format(", ".join(people)), [("702", author, "340"), ("702", second, "340")]
    if serial or kind == "corporate":
        by, access = body, []
    head = [("a", title)] + ([("e", w["other"])] if n % 3 == 0 else []) + [("f", by)]
    if n % 3 == 0:
        extra.append(w["other"])
    if translation:
        head.append(("g", w["tr"].format(full(third, language))))
        access.append(("702", third, "730"))
        extra.append(f"{w['original']}, {head[-1][1]}")
    f.append(data("200", "1 ", *head))
    published = [("a", place), ("c", house), ("d", f"{year}-" if serial else year)]
    f.append(data("214", " 0", *published) if n % 2 else data("210", "  ", *published))
    if not serial:
        f.append(data("215", "  ", ("a", w["p"].format(pages)), ("d", w["cm"].format(size))))
    if kind == "series":
        f.append(data("225", "2 ", ("a", w["titles"][(n + 3) % 16]), ("v", str(rng.randrange(1, 90)))))
        extra.append(f"{w['titles'][(n + 3) % 16]}, {f[-1].first('v')}")
    if n % 2 == 0:
        f.append(data("320", "  ", ("a", w["note"])))
        extra.append(w["note"])
    f.append(data("606", "  ", ("a", subject)))
    extra.append(subject)
    f += [data(tag, " 1", ("a", name[0]), ("b", name[1]), ("4", role)) for tag, name, role in access]
    if not access:
        f.append(data("710", "02", ("a", body), ("4", "340" if serial else "070")))
    f.append(data("801", " 0", ("a", w["country"]), ("b", "POSTTRAIN"), ("c", entered)))
    size_text = "" if serial else w["pages"].format(pages, size)
    raw = w["source"].format(
        title=title, by=by, place=place, house=house, year=year, pages=size_text, extra=". ".join(extra)
    )
    return Record(f"     na{'s' if serial else 'm'}0 22     1  450 ", tuple(f)), raw


FAULTS = ["L3-09", "L4-01", "L1-05", "L2-06", "L3-03", "L4-02", "L3-08", "L2-11"]


def rows() -> list[dict[str, object]]:
    out = []
    for language in WORDS:
        for n, kind in enumerate(KINDS):
            record, source = make(language, n, random.Random(f"{language}{n}"))
            name = f"{language}-{n:02d}"
            common = {
                "kind": kind,
                "language": language,
                "source": source,
                "checked": "model",
                "origin": "own, invented",
            }
            out.append({"id": name, **common, "record": to_lines(record), "issues": []})
            if n in (0, 8):
                rule = FAULTS[len(out) // 9 % len(FAULTS)]
                faulty = from_marcxml(corrupt(record, rule, n))
                out.append({"id": f"{name}-faulty", **common, "record": to_lines(faulty), "issues": [rule]})
    return out


if __name__ == "__main__":
    lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
    Path(__file__).with_name("records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
