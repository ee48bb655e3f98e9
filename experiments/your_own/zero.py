"""R1-Zero on the toy task with a reward, an objective, advantages, token weights,
records, a template and an optimiser of your own."""

from experiments import demo_zero

HERE = 'experiments/your_own'


def get_config():
  config = demo_zero.get_config()
  config.prompts = f'{HERE}/data.py:sums?count=4000&digits=8'
  config.rewards = {'accuracy': 1.0, f'{HERE}/rewards.py:mentions_gold': 0.1}
  config.grpo.objective = f'{HERE}/objective.py:soft_clip'
  config.grpo.objective_options = dict(tau=1.0)
  config.grpo.advantage = f'{HERE}/advantages.py:leave_one_out'
  config.grpo.loss_agg = f'{HERE}/advantages.py:per_token'
  config.optim.optimizer = 'optax:lion'
  config.optim.lr = 2e-5
  return config
