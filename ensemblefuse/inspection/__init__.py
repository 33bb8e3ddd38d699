"""What a fitted model has learned, and why it says what it says. Floor 4."""

__all__: list[str] = []
