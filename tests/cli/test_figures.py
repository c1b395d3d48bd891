"""How rates are printed."""

from polyspike.cli.figures import rates_text
from polyspike.driver import Rates


def test_rates_over_a_link_of_known_rate() -> None:
    rates = Rates(200, 0.5, 200 * 71_000, 90_000_000, 200 * 890, 200 * 76, 0.934)
    assert rates_text(rates) == (
        "core: 71,000 cycles an image, 1,268 images/s at 90 MHz\n"
        "end to end: 400.0 images/s, 890 bytes sent and 76 received an image, link 93.4 % busy"
    )


def test_rates_where_little_is_known() -> None:
    rates = Rates(10, 4.0, 10_000, None, None, None, None)
    assert rates_text(rates) == "core: 1,000 cycles an image\nend to end: 2.5 images/s"
