"""Scores of rows, their intervals, and the tables and pictures that show them. Knows no model."""
