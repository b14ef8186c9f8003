"""How a run checks its tests, as the header says it."""

from __future__ import annotations

from pytest_memreq.simulate.cards import DEFAULT_CARD


def how_checked(mode: str = "auto", gpu: str | None = None) -> str:
    """By the mode, with the card that is pretended in it."""
    card = gpu or DEFAULT_CARD
    return {
        "auto": f"measured on a device if there is one, else simulated on {card}",
        "measure": "measured",
        "simulate": f"simulated on {card}",
        "both": "simulated, and then measured",
        "off": "off",
    }[mode]
