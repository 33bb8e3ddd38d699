"""Access to a fitted model: its modalities, encoders and columns, and its predictions with and without modalities."""
