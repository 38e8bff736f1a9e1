"""Build the embedded dataset ``cldr`` from Unicode CLDR: territories, languages, money and time.

Almost every fact is read from the CLDR tables inside the Babel package. Babel drops two of CLDR's
tables, the containment of territories and the groups of languages: they lie beside the triples in
``cldr/supplement.json``. The result depends on nothing but those two sources, so with the pinned
Babel version the frozen files come out again byte for byte:

    python datasets/build_cldr.py --out datasets/cldr
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BABEL_VERSION = "2.18.0"
SEED = "cldr-1"

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from inferable_split import Fact, one_fact_per_pair, prune, split  # noqa: E402

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SEPARATORS = {
    ",": "comma",
    ".": "point",
    "\u066b": "Arabic separator",
    "\u066c": "Arabic separator",
    "\u00a0": "space",
    "\u202f": "space",
    "\u2019": "apostrophe",
}
# English names of the digits whose code is not the code of a script.
DIGITS = {"latn": "Western digits", "arab": "Arabic-Indic digits"}
DIGITS["arabext"] = "Extended Arabic-Indic digits"
NOT_TERRITORIES = {"XA", "XB", "ZZ", "EU", "EZ", "UN", "QO"}
NOT_LANGUAGES = {"mul", "zxx", "und"}


class Names:
    """Readable English names that do not clash: ``Georgia``, ``Georgian language``."""

    def __init__(self, supplement: dict[str, Any]) -> None:
        """Read the English display names and the names of language groups."""
        from babel.core import Locale

        english = Locale("en")
        self._english = english
        self.territories = {
            code: "World" if code == "001" else name
            for code, name in english.territories.items()
            if code not in {"XA", "XB", "ZZ"}
        }
        self.languages = {
            code: name if name.endswith("Language") else f"{name} language"
            for code, name in english.languages.items()
            if "_" not in code and code not in NOT_LANGUAGES
        }
        self.languages.update(supplement["language_group_names"])
        # CLDR calls Hans and Hant "Simplified" and "Traditional": clear only beside "Chinese".
        han = {"Hans": "Simplified Han", "Hant": "Traditional Han"}
        self.scripts = {
            code: f"{han.get(code, name)} script" for code, name in english.scripts.items()
        }
        self.currencies = dict(english.currencies.items())

    def metazone(self, code: str) -> str:
        """Return the name of a group of time zones that share their civil time."""
        names = self._english.meta_zones.get(code, {}).get("long", {})
        return str(
            names.get("generic") or names.get("standard") or f"{code.replace('_', ' ')} Time"
        )

    def denomination(self, code: str) -> str:
        """Return what one unit of a currency is called: ``peso`` for the Argentine one."""
        singular = self._english._data["currency_names_plural"].get(code, {}).get("one", "")
        return re.sub(r"\s*\(.*?\)", "", singular).split(" ")[-1].lower()


def language_facts(names: Names, supplement: dict[str, Any]) -> Iterator[Fact]:
    """Yield who speaks what where, how it is written, and what it is related to."""
    from babel import localedata
    from babel.core import get_global

    spoken: dict[tuple[str, str], str] = {}
    strength = (
        "official_language",
        "regional_official_language",
        "widely_spoken_language",
        "minority_language",
    )
    scripts: dict[str, set[str]] = defaultdict(set)
    for territory, languages in get_global("territory_languages").items():
        for tag, details in languages.items():
            code, _, script = tag.partition("_")
            if script:
                scripts[code].add(script)
            if code not in names.languages:
                continue
            status = details["official_status"]
            if status in ("official", "de_facto_official"):
                rank = 0
            elif status == "official_regional":
                rank = 1
            else:
                rank = 2 if details["population_percent"] >= 10 else 3
            pair = (territory, code)
            spoken[pair] = min(spoken.get(pair, strength[rank]), strength[rank], key=strength.index)
    for (territory, code), relation in spoken.items():
        yield names.territories[territory], relation, names.languages[code]

    likely = get_global("likely_subtags")
    spoken_languages = {code for _, code in spoken}
    for tag in list(likely) + localedata.locale_identifiers():
        code, *rest = tag.split("_")
        parts = [*rest, *likely.get(tag, "").split("_")]
        scripts[code].update(part for part in parts if len(part) == 4)
    for code, name in names.languages.items():
        if code not in likely:
            continue
        main, territory = likely[code].split("_")[1:]
        # A language with census figures is tied to its territories above; its likely territory
        # would be the inverse of one of those facts.
        if code not in spoken_languages and territory in names.territories and territory != "001":
            yield name, "home_territory", names.territories[territory]
        yield name, "main_script", names.scripts[main]
        for script in scripts[code] - {main}:
            if script.istitle() and script in names.scripts:
                yield name, "also_written_in_script", names.scripts[script]
    for group, members in supplement["language_groups"].items():
        for member in members.split():
            if member in names.languages and group in names.languages:
                yield names.languages[member], "belongs_to_language_group", names.languages[group]


def grammar_facts(names: Names) -> Iterator[Fact]:
    """Yield the plural forms and digits of the languages that have a locale."""
    from babel import localedata
    from babel.core import Locale

    for identifier in sorted(localedata.locale_identifiers()):
        language, *rest = identifier.split("_")
        if language not in names.languages or any(len(part) != 4 for part in rest):
            continue
        locale = Locale.parse(identifier)
        script = locale.script or _likely_script(language)
        if script in names.scripts:
            yield names.scripts[script], "written_in_direction", locale.character_order
        if rest:
            continue
        name = names.languages[language]
        for category in locale.plural_form.tags:
            yield name, "has_plural_category", f"plural category {category}"
        for category in locale.ordinal_form.tags:
            yield name, "has_ordinal_category", f"ordinal category {category}"
        for code in {locale.default_numbering_system, locale.other_numbering_systems.get("native")}:
            script_name = names.scripts.get(str(code).title(), "")
            digits = DIGITS.get(str(code), script_name.replace(" script", " digits"))
            if digits:
                yield name, "uses_digits", digits


def _likely_script(language: str) -> str:
    from babel.core import get_global

    return str(get_global("likely_subtags").get(language, "__").split("_")[1])


def money_facts(names: Names) -> Iterator[Fact]:
    """Yield which territory pays, or paid, with which currency, and what its unit is called."""
    from babel.core import get_global

    currencies = set()
    for territory, history in get_global("territory_currencies").items():
        if territory not in names.territories or territory in NOT_TERRITORIES:
            continue
        current = {code for code, _, end, tender in history if tender and end is None}
        former = {code for code, _, end, tender in history if tender and end is not None} - current
        for relation, codes in (("uses_currency", current), ("formerly_used_currency", former)):
            for code in codes & set(names.currencies):
                currencies.add(code)
                yield names.territories[territory], relation, names.currencies[code]
    for code in currencies:
        denomination = names.denomination(code)
        if denomination:
            yield names.currencies[code], "unit_is_called", denomination


def time_facts(names: Names) -> Iterator[Fact]:
    """Yield which territory lies in which time zones, and which zones share their civil time."""
    from babel.core import get_global

    alias = get_global("zone_aliases")
    for zone, territory in get_global("zone_territories").items():
        if territory in names.territories and territory != "001":
            yield names.territories[territory], "has_time_zone", alias.get(zone, zone)
    for zone, metazone in get_global("meta_zones").items():
        yield alias.get(zone, zone), "follows_time", names.metazone(metazone)


def place_facts(names: Names, supplement: dict[str, Any]) -> Iterator[Fact]:
    """Yield which region contains which territory, and how each territory counts and writes."""
    from babel.core import Locale, UnknownLocaleError
    from babel.numbers import get_decimal_symbol, get_group_symbol

    for region, members in supplement["territory_containment"].items():
        for member in members.split():
            relation = "member_of" if region in ("EU", "EZ", "UN") else "contained_in"
            if member not in ("EU", "EZ", "UN"):
                yield names.territories[member], relation, names.territories[region]
    for code, name in names.territories.items():
        if len(code) != 2 or code in NOT_TERRITORIES:
            continue
        try:
            locale = Locale.parse(f"und_{code}")
        except UnknownLocaleError:
            continue
        yield name, "first_day_of_week", DAYS[locale.first_week_day]
        yield name, "weekend_starts_on", DAYS[locale.weekend_start]
        date = re.sub("[^dMy]", "", locale.date_formats["short"].pattern)
        parts = {"d": "day", "M": "month", "y": "year"}
        order = "-".join(parts[letter] for letter in dict.fromkeys(date))
        yield name, "writes_dates_as", f"{order} order"
        hours = 24 if "H" in locale.time_formats["short"].pattern else 12
        yield name, "uses_clock", f"{hours}-hour clock"
        decimal = get_decimal_symbol(locale, numbering_system="default")
        yield name, "marks_decimals_by", f"decimal {SEPARATORS[decimal]}"
        group = get_group_symbol(locale, numbering_system="default")
        yield name, "groups_digits_by", f"thousands {SEPARATORS[group]}"
        amount = locale.currency_formats["standard"].pattern.split(";")[0]
        place = "before" if amount.find("\u00a4") < amount.find("0") else "after"
        yield name, "writes_currency_sign", f"currency sign {place} the amount"


def collect() -> set[Fact]:
    """Return every fact of the graph before it is split."""
    supplement = json.loads((ROOT / "cldr" / "supplement.json").read_text(encoding="utf-8"))
    names = Names(supplement)
    facts = {
        *language_facts(names, supplement),
        *grammar_facts(names),
        *money_facts(names),
        *time_facts(names),
        *place_facts(names, supplement),
    }
    return prune(one_fact_per_pair(facts))


def build() -> dict[str, list[Fact]]:
    """Return the frozen splits ``train``, ``valid`` and ``test``, each sorted.

    Raises:
        RuntimeError: another Babel than the pinned one is installed, so the facts would differ.
    """
    import babel

    if babel.__version__ != BABEL_VERSION:
        raise RuntimeError(f"cldr is frozen from Babel {BABEL_VERSION}, not {babel.__version__}")
    return split(collect(), SEED)


def write(folder: Path) -> None:
    """Write ``train.txt``, ``valid.txt`` and ``test.txt``: head, relation, tail parted by tabs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, facts in build().items():
        text = "".join("\t".join(fact) + "\n" for fact in facts)
        (folder / f"{name}.txt").write_bytes(text.encode("utf-8"))
        print(f"{name}: {len(facts)} facts")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "cldr", help="folder to write to")
    write(parser.parse_args().out)
