"""Decorators around any sink, each in a module of its own."""
