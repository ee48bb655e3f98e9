"""The parts of the stages that learn from the responses of a file: configs, rows of
ids, held-out evaluation."""
