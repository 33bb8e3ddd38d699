"""Read one cell of a picture, a sound, a video, a graph or a series into arrays. Imports no torch."""
