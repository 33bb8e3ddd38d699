"""What a column's name says of its numbers: a quantity or a time, a rank, or the number of a row or a thing."""

from __future__ import annotations

import re

from ensemblefuse.column_kinds._identifiers import says_id

__all__ = ["says_code", "says_number_of_thing", "says_quantity", "says_rank", "says_row", "says_thing"]

# Whole words in small letters: English, German, Dutch, French, Spanish, Italian, Portuguese, Polish, Russian. Left out
# are words that mean something else in another language: German "Tag", Italian "data".
_TIMES = """
    year years yr yrs yyyy date dates datetime day days doy month months week weeks quarter quarters season seasons
    semester decade hour hours hr hrs minute minutes second seconds sec time times timestamp period periods epoch t step
    iteration jahr jahre monat monate woche wochen tage datum stunde stunden minuten quartal saison zeit jaar maand dag
    uur année annee ans mois jour jours semaine heure trimestre saison año años anio mes día dia días semana hora fecha
    temporada anno anni mese mesi giorno giorni settimana ora stagione ano mês rok miesiąc dzień tydzień godzina год
    месяц день неделя дата час время"""
_MEASURES = """
    age price prices cost costs amount amt total sum weight height width depth length size area volume distance dist
    altitude elevation speed temperature temp pressure humidity power energy horsepower income salary salaries wage
    wages revenue sales turnover profit budget population pop score scores points count counts quantity qty duration
    mileage km miles percent pct percentage rate ratio mean median average avg min max dose capacity votes views likes
    followers reviews downloads visits value values lat lon latitude longitude
    alter preis gewicht größe groesse höhe hoehe länge laenge breite tiefe fläche flaeche entfernung anzahl menge betrag
    umsatz gehalt einkommen kosten temperatur punkte einwohner leeftijd prijs hoogte lengte aantal bedrag
    âge prix montant poids taille hauteur longueur largeur surface nombre quantité salaire revenu température
    edad precio importe peso altura longitud ancho superficie distancia cantidad salario ingresos población temperatura
    età prezzo importo altezza lunghezza distanza quantità stipendio idade preço comprimento distância quantidade
    wiek cena waga возраст цена вес сумма количество площадь"""
_RANKS = "rank ranks ranking position pos place percentile rang platz classement clasificación posizione место"
_ROWS = """
    index idx unnamed row rows rownum rownames line case obs observation record serial seq seqn sno sn key no nr num
    number numbers nummer zeile lfd rij numéro numero número ligne fila riga linha numer lp номер"""
_CODES = """
    code codes phone phones telephone tel mobile fax barcode account acct passport licence license invoice order ticket
    telefon handy konto telefono teléfono telefone téléphone kod código codigo codice код телефон"""
# People and things that have a number each. In the plural, they are counted.
_THINGS = """
    customer client user member patient student pupil employee worker seller vendor supplier merchant buyer store shop
    product item article player driver household subject participant respondent hospital clinic doctor
    physician agent host author teacher tenant guest passenger team club company firm device station sensor machine
    vehicle warehouse kunde mitarbeiter artikel filiale händler lieferant benutzer nutzer mitglied schüler firma gerät
    klant winkel produit magasin fournisseur élève employé cliente producto tienda proveedor paciente usuario empleado
    prodotto negozio fornitore paziente utente produto loja klient produkt sklep клиент товар магазин пациент"""
_COUNTS = "n num number nb nbr anzahl of per"
# Ends of words: in these languages, the last part of a word says what it is, as in Baujahr and Kundennummer.
_TIME_ENDS = "jahr monat woche datum 年 年份 年度 日期 时间 月 月份 日 周 季度 小时 天数 時間 연도 날짜"
_MEASURE_ENDS = """
    preis gewicht größe höhe länge breite fläche anzahl menge betrag umsatz 年龄 价格 金额 数量 面积 重量 高度 长度
    距离 温度 收入 工资 销量 销售额 评分 分数 人口 里程 年齢 価格 金額 面積 距離 身長 体重 가격"""
_RANK_ENDS = "排名 名次 順位 순위"
_ROW_ENDS = "nummer 序号 编号 行号 号码 号 番号 번호"
_CODE_ENDS = "代码 编码 电话 手机 条码 コード 電話 코드"
_THING_ENDS = "客户 用户 会员 商品 产品 店铺 门店 员工 供应商 患者 顧客 店舗 고객"
_STEMS = (
    "kunden",
    "mitarbeiter",
    "artikel",
    "filial",
    "lieferanten",
    "mitglieds",
    "patienten",
    "klant",
    "school",
    "branch",
    "account",
    "order",
    "invoice",
)
_WORDS = {
    "thing": _THINGS,
    "count": _COUNTS,
    "time": _TIMES,
    "measure": _MEASURES,
    "rank": _RANKS,
    "row": _ROWS,
    "code": _CODES,
}
_KNOWN = {kind: frozenset(words.split()) for kind, words in _WORDS.items()}
_SUFFIXES = {
    "thing": _THING_ENDS,
    "count": "",
    "time": _TIME_ENDS,
    "measure": _MEASURE_ENDS,
    "rank": _RANK_ENDS,
    "row": _ROW_ENDS,
    "code": _CODE_ENDS,
}
_ENDS = {kind: tuple(ends.split()) for kind, ends in _SUFFIXES.items()}


_MOST_WORDS = 2  # in a name that ends with a thing: longer ones say more
_NUMBER_ENDS = ("nr", *_ENDS["row"], *_ENDS["code"])


def says_quantity(name: str) -> bool:
    """Return whether a name says a time or what is measured or counted: ``Year``, ``yearID``, ``order_total``.

    The last word decides, so ``area_code`` and ``size_id`` say none; but ``week_nr`` is a time.

    Examples
    --------
    >>> from ensemblefuse.column_kinds._names import says_quantity
    >>> [name for name in ("yearID", "area_code", "Baujahr", "userId", "week_nr", "价格") if says_quantity(name)]
    ['yearID', 'Baujahr', 'week_nr', '价格']
    """
    words = _words_of(name)
    others = [word for word in words if not says_id(word)]
    if len(others) == len(words) and words and (_is("row", words[-1]) or _is("code", words[-1])):
        others = words[:-1]
    if len(others) < len(words):
        return bool(others) and all(_is("time", word) for word in others)
    return any(_is("time", word) or _is("measure", word) for word in words)


def says_rank(name: str) -> bool:
    """Return whether a name says in which order rows come by something else: ``rank``, ``Platz``."""
    return any(_is("rank", word) for word in _words_of(name))


def says_row(name: str) -> bool:
    """Return whether a name says the number of a row, or of the thing in it: ``Unnamed: 0``, ``obs``, ``Kundennummer``.

    Words for number do so at the end of a name alone: ``number_of_rooms`` and ``num_rooms`` count.
    """
    words = _words_of(name)
    is_number = any(sign in name.lower() for sign in ("#", "№", "n°")) or (bool(words) and _is("row", words[-1]))
    return (is_number or says_id(name)) and not says_quantity(name)


def says_thing(name: str) -> bool:
    """Return whether a name says who or what a row is about: ``customer``, ``store_nr``, ``Kundennummer``.

    Examples
    --------
    >>> from ensemblefuse.column_kinds._names import says_thing
    >>> [name for name in ("customer", "Kundennummer", "customers", "item_price", "客户") if says_thing(name)]
    ['customer', 'Kundennummer', '客户']
    """
    words = _words_of(name)
    if not words or says_quantity(name) or any(_is("count", word) for word in words[:-1]):
        return False
    return (len(words) <= _MOST_WORDS and _is("thing", words[-1])) or says_number_of_thing(name)


def says_number_of_thing(name: str) -> bool:
    """Return whether a name says the number of a person or thing: ``customer_no``, ``Kundennummer``, ``客户编号``."""
    words = _words_of(name)
    if len(words) > 1 and (_is("row", words[-1]) or _is("code", words[-1])):
        return _is("thing", words[-2]) or words[-2].startswith(_STEMS)
    whole = words[-1] if words else ""
    stem = next((whole.removesuffix(end) for end in _NUMBER_ENDS if whole.endswith(end)), "")
    return bool(stem) and (stem.startswith(_STEMS) or _is("thing", stem))


def says_code(name: str) -> bool:
    """Return whether a name says the number of a row, or a code: ``phone``, ``order no``, ``barcode``."""
    return says_row(name) or (not says_quantity(name) and any(_is("code", word) for word in _words_of(name)))


def _words_of(name: str) -> list[str]:
    """Return the words of a name in small letters: ``PeriodEnd2`` has period and end."""
    parted = re.sub(r"([a-zß-ÿ])([A-ZÀ-Þ])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return re.findall(r"[^\W\d_]+", parted.lower())


def _is(kind: str, word: str) -> bool:
    return word in _KNOWN[kind] or word.endswith(_ENDS[kind])
