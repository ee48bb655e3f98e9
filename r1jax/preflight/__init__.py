"""A pod rehearsed before it is paid for: what a config needs of each chip, by
formula and by the compiler of TPUs."""
