"""Faults, one at a time: each leaves out one rule, and must be caught."""

active: str | None = None


def planted(name: str) -> bool:
    return active == name
