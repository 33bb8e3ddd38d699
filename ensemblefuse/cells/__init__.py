"""Readers of one cell (a picture, sound, video, graph, text or row of numbers) into arrays. Imports no torch."""
