r"""Verification of math answers.

`grading` extracts the final answer of a response and compares it with the gold
by exact rules, on values that `value_forms` reads with `cleaning` and `units`.
What these rules leave open, `symbolic` compares in a worker process: `lexer`
and `parser` build expressions with `bounded_arithmetic` for `numeric`.
"""
