"""Predicts the memory and time of an rl run on a pod, without the pod: by
formula and by the TPU compiler."""
