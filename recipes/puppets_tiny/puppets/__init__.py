"""Talking heads that are drawn and spoken here, for recipes that train in minutes and for tests."""
