"""Networks: their weights, how they are built, and how they run on a device."""
