from core.tests.plugins.distributions import install

__all__ = ["install"]
