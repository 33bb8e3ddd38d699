"""Networks: their weights, their construction, and their execution on a device."""
