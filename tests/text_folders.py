"""A tiny random network of transformers, as a folder."""

WORDS = ["a", "the", "red", "blue", "cat", "dog", "circle", "sleeps", "runs", "fast", "slow", "house", "!", "."]


def make_bert(folder):
    """A plain Hugging Face folder: a random BERT of 16 dimensions with a vocabulary of 19 words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(vocabulary), model_max_length=32).save_pretrained(folder)
    # transformers 5 may not read the vocabulary file that it is given: write the tokenizer's own form too.
    from tokenizers import BertWordPieceTokenizer

    BertWordPieceTokenizer(str(vocabulary)).save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder
