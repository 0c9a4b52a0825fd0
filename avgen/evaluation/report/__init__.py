"""Rows -> tables, drawings and pages."""
