"""RLOO (Ahmadian et al. 2024): each reward minus the mean of the others of its
group; and one weight for all tokens of a mini-batch."""


def leave_one_out(reward_PG, keep_PG):
  others_PG = keep_PG.sum(axis=1, keepdims=True) - keep_PG
  sums_PG = (reward_PG * keep_PG).sum(axis=1, keepdims=True) - reward_PG
  return reward_PG - sums_PG / others_PG.clip(1)


def per_token(mask_BL):
  return mask_BL / mask_BL.sum()
