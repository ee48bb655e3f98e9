"""An optax transformation, made from the learning rate's schedule. Its option:
config.optim.optimizer_options.momentum=0.9"""

import optax


def sgd(learning_rate, momentum):
  return optax.chain(
    optax.trace(decay=momentum), optax.scale_by_learning_rate(learning_rate)
  )
