"""Verification of math answers: `grading` compares by exact rules. Answers that
these rules cannot decide are compared by `symbolic` in a worker process."""
