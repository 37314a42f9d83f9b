from tests.distributions import clean, pins, wheels

__all__ = ["clean", "pins", "wheels"]
