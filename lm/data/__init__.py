"""Corpora and tokenizers to shards of tokens: what training reads."""
