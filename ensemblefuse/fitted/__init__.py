"""A fitted model, opened: its modalities, encoders and columns, and what it says of rows with and without each."""
