"""Pretrained weights and tokenizers in and out."""
