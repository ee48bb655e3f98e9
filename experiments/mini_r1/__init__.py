"""The recipe of DeepSeek-R1 in miniature, on synthetic data (make mini-r1)."""
