"""The network on words that is trained from scratch. Imports torch."""

from __future__ import annotations

import torch
from torch import nn

from ensemblefuse.networks._sequences import pooled, until

__all__ = ["WordNetwork"]


class WordNetwork(nn.Module):
    """Vectors of words, a recurrent layer in both directions, and mean and maximum over the words.

    Parameters
    ----------
    n_words, word_width, units : int
    """

    def __init__(self, n_words: int, word_width: int, units: int):
        super().__init__()
        self.words = nn.Embedding(n_words, word_width)
        self.layer = nn.GRU(word_width, units, batch_first=True, bidirectional=True)

    def forward(self, numbers: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, 4 * units).

        Parameters
        ----------
        numbers : int tensor of shape (n, length)
        lengths : int tensor of shape (n,)
            Number of words of each text, at least 1.
        """
        packed = nn.utils.rnn.pack_padded_sequence(
            self.words(numbers), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        return pooled(states, until(lengths, states.shape[1]))
