"""Pure forward functions, their configs and their partition tables.

The name of an array ends with its shape, one letter an axis; a digit is an axis
of that length. This is the legend for the whole package:

  B  rows of a batch              C  channels of a head
  T  tokens of a call             F  feed-forward width
  L  tokens of a whole row        E  experts
  S  columns of a cache, or keys  V  vocabulary
  N  layers, or steps of a scan;  P  prompts; in expert_rounds.py, devices
     in a rollout, samples        H  query heads
  D  model width                  K  key/value heads
  M  pairs of a token and one of its experts
  R  channels of a latent (mla.py)
  G  query heads of a key/value head; in a rollout, samples of a prompt
"""
