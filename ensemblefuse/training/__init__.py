"""Training of networks: arrays and modules, without tables, cells, and labels other than codes. Imports no torch."""
