"""Errors, units and array conventions that every other room relies on."""
