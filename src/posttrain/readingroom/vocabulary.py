# ruff: noqa: SIM905 (a line of words reads better than a list of quotes)
"""Words of the invented world, partitioned by split.

Every surname, title, publisher and place is made up from parts; a resemblance is chance. `train` and the splits beside it share the parts,
but no title of `train` stands in another split (a stable hash decides); `ood` and `new-vocabulary` have parts of their own. Leaves out
anything about real works or people.
"""

from __future__ import annotations

import zlib

SPLITS = ("train", "held-out", "new-phrasing", "new-vocabulary", "rare", "ood")
"""What is new to a model that learned from `train`: nothing; the facts; the wordings; the words; how often it is so; wordings and words."""
LANGS = ("en", "fr", "ru", "zh")

SURNAME_HEADS = (
    "Mar Bel Cor Hal Ver Tor Lan Des Brou Gri Pal Ros Sel Van Dur Fal Kel Mon Nor Ost Per Quin Ral Sor Tal".split()
)
SURNAME_TAILS = (
    "chebois vane lond wick mont ard elle ignac ster owe ival enne oux erin aud ham ley tier mond ac".split()
)
SURNAME_HEADS_OOD = "Zel Jar Ulm Ibre Thax Cren Ombr Yor".split()
SURNAME_TAILS_OOD = "beck ouard sby inet gard evic luz ombe".split()

GIVEN = (
    "Odile Tom Anne Hugo Clara Emil Nina Paul Irene Marc Louise Adam Rosa Victor Helen Simon Julie Walter Alice Denis "
    "Marthe Oscar Ruth Gabriel"
).split()
GIVEN_OOD = "Ysolde Bram Coralie Fergus Hedwige Lucan Perrine Tobias".split()

PLACE_HEADS = {
    "en": "Ash Wold Lark Thorn Stone Elm Hay Mill".split(),
    "fr": "Clair Haut Bois Pierre Font Mont Roche Val".split(),
}
PLACE_TAILS = {"en": "bury ford mere combe wick ley".split(), "fr": "mare lieu ville court rives saint".split()}
PLACE_HEADS_OOD = {"en": "Bracken Gull Sedge Quarry".split(), "fr": "Genêt Sable Tour Cygne".split()}
PLACE_TAILS_OOD = {"en": "stead hythe worth".split(), "fr": "champ gué bourg".split()}

TITLE_HEADS = {
    "en": "The Lantern;The Garden;The House;Letters;The River;A History;The Clock;Songs;The Bridge;The Winter;Notes;The Island;"
    "The Map;Voices;The School;The Mirror;The Road;The Harbour;Studies;The Tower".split(";"),
    "fr": "La lanterne;Le jardin;La maison;Lettres;Le fleuve;Une histoire;L'horloge;Chansons;Le pont;L'hiver;Notes;L'île;"
    "La carte;Les voix;L'école;Le miroir;La route;Le port;Études;La tour".split(";"),
    "ru": "Фонарь Сад Дом Письма Река История Песни Мост Зима Остров Карта Дорога".split(),
    "zh": "灯 花园 家 书信 河 历史 歌 桥 冬天 岛 地图 路".split(),
}
TITLE_HEADS_OOD = {
    "en": "The Orchard;The Ferry;Fables;The Well;The Attic;Sketches".split(";"),
    "fr": "Le verger;Le bac;Fables;Le puits;Le grenier;Croquis".split(";"),
    "ru": "Колодец Паром Басни Чердак".split(),
    "zh": "井 渡船 寓言 阁楼".split(),
}
TITLE_TAILS = {
    "en": "of Mist;of Salt;of the North;of Tides;of Glass;of Bees;of the Valley;of Rain;of Paper;of the Miller;of Stones;of Evening;"
    "of Birds;of the Weaver;of Wine;of Dust;of the Sea;of Bells;of Bread;of Snow".split(";"),
    "fr": "des brumes;de sel;du nord;des marées;de verre;des abeilles;de la vallée;de la pluie;de papier;du meunier;des pierres;du soir;"
    "des oiseaux;du tisserand;du vin;de poussière;de la mer;des cloches;du pain;de neige".split(";"),
    "ru": "тумана соли севера стекла долины дождя камней вечера птиц моря хлеба снега".split(),
    "zh": "雾 盐 北方 玻璃 山谷 雨 石 黄昏 鸟 海 面包 雪".split(),
}
TITLE_TAILS_OOD = {
    "en": "of Amber;of Moths;of the Marsh;of Ink;of the Glazier;of Thyme".split(";"),
    "fr": "d'ambre;des papillons;du marais;d'encre;du vitrier;de thym".split(";"),
    "ru": "янтаря мотыльков болота чернил".split(),
    "zh": "琥珀 飞蛾 沼泽 墨水".split(),
}
SUBTITLES = {
    "en": "a novel;essays;a guide;memories;poems;a short history;lessons;tales;a survey;an inquiry".split(";"),
    "fr": "roman;essais;guide;souvenirs;poèmes;petite histoire;leçons;contes;enquête;récits".split(";"),
}
SUBTITLES_OOD = {"en": "a chronicle;dialogues;an almanac".split(";"), "fr": "chronique;dialogues;almanach".split(";")}
SUBJECTS = {
    "en": "Tides;Bees;Mills;Bridges;Clocks;Gardens;Songs;Maps;Rivers;Schools;Weaving;Bread".split(";"),
    "fr": "Marées;Abeilles;Moulins;Ponts;Horloges;Jardins;Chansons;Cartes;Rivières;Écoles;Tissage;Pain".split(";"),
}
SUBJECTS_OOD = {"en": "Ferries;Moths;Orchards;Glass".split(";"), "fr": "Bacs;Papillons;Vergers;Vitraux".split(";")}
SERIES = {
    "en": "Blue Shelf;Pocket Lessons;The Small Library;River Papers;Northern Voices".split(";"),
    "fr": "Rayon bleu;Leçons de poche;La petite bibliothèque;Cahiers du fleuve;Voix du nord".split(";"),
}
SERIES_OOD = {"en": "Lamp and Page;Second Harvest".split(";"), "fr": "Lampe et page;Seconde récolte".split(";")}
PUBLISHERS = {"en": "{} Press;{} Books;{} House".split(";"), "fr": "Éditions {};Presses {};{} et fils".split(";")}
PUBLISHERS_OOD = {"en": "{} Union;{} and Daughters".split(";"), "fr": "Librairie {};Atelier {}".split(";")}

PEOPLE_RU = "Белов Ветров Громов Зимин Котов Лугов Морин Орлов Седов Тихов".split()
PEOPLE_RU_OOD = "Ясенев Шумов Чайкин Фокин Юрьев Хромов".split()
INITIALS_RU = "А. В. И. К. Н. О. С.".split()
PEOPLE_ZH = "林河 陈雨 王松 李山 周云 赵文 孙石 吴海".split()
PEOPLE_ZH_OOD = "郑琴 冯墨 许岚 何晴 沈砚 唐枫".split()
PLACES_RU = "Заречье Белоград Северск Камнегорск Липовец".split()
PLACES_RU_OOD = "Ключевец Чернолесье".split()
PLACES_ZH = "云河 青石 东湖 白山 南桥".split()
PLACES_ZH_OOD = "墨岭 渡口".split()
PUBLISHERS_RU = "Северный дом;Речная книга;Старый мост".split(";")
PUBLISHERS_RU_OOD = "Новый причал;Чистый лист".split(";")
PUBLISHERS_ZH = "河边出版社 青山书社 灯塔出版社".split()
PUBLISHERS_ZH_OOD = "墨海书局 古井出版社".split()

COUNTRIES = {
    "en": {"FR": "France", "BE": "Belgium", "CH": "Switzerland", "GB": "Britain", "IE": "Ireland", "CA": "Canada"},
    "fr": {"FR": "France", "BE": "Belgique", "CH": "Suisse", "GB": "Grande-Bretagne", "IE": "Irlande", "CA": "Canada"},
    "ru": {"RU": "Россия"},
    "zh": {"CN": "中国"},
}
COUNTRIES_OF = {"en": ("GB", "IE", "CA"), "fr": ("FR", "BE", "CH"), "ru": ("RU",), "zh": ("CN",)}
LANGUAGES = {
    "en": {
        "eng": "English",
        "fre": "French",
        "rus": "Russian",
        "chi": "Chinese",
        "ger": "German",
        "ita": "Italian",
        "spa": "Spanish",
    },
    "fr": {
        "eng": "anglais",
        "fre": "français",
        "rus": "russe",
        "chi": "chinois",
        "ger": "allemand",
        "ita": "italien",
        "spa": "espagnol",
    },
    "ru": {"rus": "русский", "eng": "английский", "fre": "французский", "ger": "немецкий", "ita": "итальянский"},
    "zh": {"chi": "中文", "eng": "英文", "fre": "法文", "ger": "德文", "ita": "意大利文"},
}
ORIGINALS = {
    "en": LANGUAGES["en"],
    "fr": {
        "eng": "de l'anglais",
        "fre": "du français",
        "rus": "du russe",
        "chi": "du chinois",
        "ger": "de l'allemand",
        "ita": "de l'italien",
        "spa": "de l'espagnol",
    },
}
CODE_OF = {"en": "eng", "fr": "fre", "ru": "rus", "zh": "chi"}
MONTHS = {
    "en": "January February March April May June July August September October November December".split(),
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split(),
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split(),
}
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def reserved(head: str, tail: str) -> bool:
    """Is this title pair kept for `held-out`? About one pair in five; stable across machines and versions of Python."""
    return zlib.crc32(f"{head}|{tail}".encode()) % 5 == 0
