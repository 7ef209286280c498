#!/usr/bin/env python3
"""Prints boundaries.csv: where days, weeks and months begin and end in eight time zones around every change of their
clocks in 2010-2030, and at the turn of every year. Shares nothing with Weir but the names of the zones.

    python3 -m venv .cache/zones && .cache/zones/bin/pip install tzdata==2025.2
    PYTHONTZPATH= .cache/zones/bin/python tests/data/calendars/make.py > tests/data/calendars/boundaries.csv

The rules of the zones are those of the package `tzdata`, whose version is written into the first line.
"""

import sys
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import TZPATH, ZoneInfo

import tzdata

ZONES = [
    "Africa/Cairo",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "UTC",
]
FIRST, LAST = date(2010, 1, 1), date(2030, 12, 31)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def local(zone, instant):
    """What clocks show, without the zone."""
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def start(zone, day):
    """The first whole minute at which clocks show this day or a later one."""
    midnight = datetime(day.year, day.month, day.day)
    instant = midnight.replace(tzinfo=timezone.utc) - timedelta(hours=26)
    while local(zone, instant) < midnight:
        instant += MINUTE
    return instant


def changes(zone):
    """The minutes at which clocks are set."""
    instant = datetime(FIRST.year, 1, 1, tzinfo=timezone.utc)
    offset = lambda at: at.astimezone(ZoneInfo(zone)).utcoffset()
    while instant.date() <= LAST:
        following = instant + timedelta(hours=1)
        if offset(following) != offset(instant):
            at = instant
            while offset(at) == offset(instant):
                at += MINUTE
            yield at
        instant = following


def day(first):
    return first, first + DAY


def week(first, begins_on):
    first -= timedelta(days=(first.weekday() - begins_on) % 7)
    return first, first + 7 * DAY


def month(first):
    first = first.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def periods(around):
    """The periods about a day, by name: first day, and first day of the next."""
    for days in range(-2, 3):
        yield "day", day(around + days * DAY)
    for days in (-7, 0, 7):
        yield "week", week(around + days * DAY, 0)
        yield "week from sunday", week(around + days * DAY, 6)
    yield "month", month(around)
    yield "month", month(around + timedelta(days=31))


def main():
    if TZPATH:
        sys.exit("set PYTHONTZPATH to nothing, or the rules are those of this system and not of `tzdata`")
    print(f"# tz database {tzdata.IANA_VERSION}: zone,period,first day,start,end (UTC); made by make.py")
    for zone in ZONES:
        about = {local(zone, at).date() for at in changes(zone)}
        about |= {date(year, 1, 1) for year in range(FIRST.year, LAST.year + 1)}
        rows = {row for around in about for row in periods(around)}
        for name, (first, following) in sorted(rows):
            bounds = (start(zone, first), start(zone, following))
            print(zone, name, first, *(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in bounds), sep=",")


main()
