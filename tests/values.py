"""Values as people and machines write them: ordinary ones, and those that break programs."""

import json
from datetime import datetime, timedelta
from random import Random
from typing import Any

FIRST_NAMES = (
    "Ada Grace Linus Søren Zoë José Noël Łukasz Ayşe Björk Nguyễn François Мария Дмитрий Ελένη "
    "יעל فاطمة 美咲 伟 지훈 Ọlá Chloë Raúl Ingrid Mehmet O'Brien"
).split()
LAST_NAMES = (
    "Lovelace Hopper Müller Ångström Çelik Dvořák Иванова Παπαδόπουλος כהן الزهراء 山田 王 김 "
    "Smith García d'Arc Nakamura Šimić Þórsson Okafor"
).split()
SUBJECTS = (
    "printer|VPN|laptop|invoice|password|e-mail|Wi-Fi|parking permit|café machine|database|"
    "Bürostuhl|プリンター|учётная запись|phone 📞|licence key|backup"
).split("|")
TROUBLES = (
    'does not start|is on fire 🔥|shows 100% CPU|asks for a password again|lost "everything"|'
    "prints only \\\\ signs|cannot be reached|is too slow|was moved|works again ✅|n'imprime plus|"
    "ist kaputt"
).split("|")
WORDS = (
    "the a after update since yesterday error user screen then again please help works nothing "
    "restart cable über naïve 日本語 привет 👩‍💻 done <b>bold</b> C:\\temp it's 100% null"
).split()
CONTENT_TYPES = ("image/png", "application/pdf", "text/plain; charset=utf-8", "image/jpeg")

EDGE_TEXTS = (
    "",
    " ",
    "  two spaces before and after  ",
    'quotes " and \' and `',
    "back\\slash \\n \\u0041",
    "tab\tnewline\nreturn\r\n",
    "nul \x00 bell \x07 escape \x1b delete \x7f",
    "line \u2028 and paragraph \u2029 separators",
    "e\u0301 is not é",
    "👨‍👩‍👧‍👦🏳️‍🌈 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "עברית \u200f العربية",
    "\ufeffbyte order mark \uffff",
    "%s %d {0} ${x} '; DROP TABLE tickets; --",
    "null",
)  # fmt: skip

EDGE_JSON = (
    "null",
    "true",
    "0",
    '""',
    "[]",
    "{}",
    '{"": ""}',
    "-0.0",
    "1.0",
    "1e-7",
    "2.5e100",
    "0.1",
    "18446744073709551615",
    "-9223372036854775808",
    '{ "spaces" :  [ 1 , 2 ] , "text" : "a , b : c" }',
    '{"quote\\"d": "\\u0000 \\ud83d\\ude00 \\/ \\\\"}',
    '["\u2028", "é😀", "\\t"]',
    '{"z": 1, "a": {"b": [null, false, {"c": [[[[]]]]}]}, "aa": 2}',
    "[" * 30 + "]" * 30,  # MariaDB takes 32 levels at most
    json.dumps({f"key {number}": number * 1.5 for number in range(200)}),
)

EDGE_TIMES = (
    "1000-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00.000001",
    "2024-02-29 12:00:00.500000",
    "2038-01-19 03:14:08",
    "9999-12-31 23:59:59.499999",  # a DATETIME without fraction rounds it, and must not overflow
)

EDGE_HOURS = ("0.00", "0.01", "-0.50", "12.50", "-9999.99", "9999.99")

_EPOCH = datetime(2026, 1, 1)  # UTC without saying so, as in the database


def full_name(random: Random) -> str:
    return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"


def title(random: Random) -> str:
    return f"{random.choice(SUBJECTS)} {random.choice(TROUBLES)}"


def sentence(random: Random, words: int) -> str:
    return " ".join(random.choices(WORDS, k=words))


def instant(random: Random, *, with_fraction: bool = True) -> str:
    """A moment of the year 2026; every third one is on the full second."""
    moment = _EPOCH + timedelta(seconds=random.randrange(300 * 86400))
    if with_fraction and random.randrange(3):
        moment += timedelta(microseconds=random.randrange(1_000_000))
    return str(moment)


def custom_fields(random: Random) -> str | None:
    """Mostly small objects, some nested, a third none."""
    kind = random.randrange(6)
    if kind < 2:
        return None
    fields: dict[str, Any] = {"source": random.choice(["web", "e-mail", "phone", "チャット"])}
    if kind > 3:
        fields["cost"] = random.randrange(100_000) / 100
        fields["urgent"] = random.random() < 0.2
    if kind > 4:
        fields["device"] = {"serial": f"SN-{random.randrange(10**9)}", "tags": ["a", None, 1, {}]}
    return json.dumps(fields, ensure_ascii=random.random() < 0.5)
