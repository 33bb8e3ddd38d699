"""Scores of rows, their intervals, and the tables and pictures that show them; this package knows no model."""
