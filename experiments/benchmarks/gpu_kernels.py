"""Compares the GPU's attention with plain attention, and times both:
python -m experiments.benchmarks.gpu_kernels"""

import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models import attention, gpu_attention, gpu_decode, linear

BFLOAT16 = jnp.bfloat16
RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=BFLOAT16):
  return jnp.asarray(RANDOM.standard_normal(shape), dtype)


def show(**line) -> None:
  print(json.dumps(line), flush=True)


def microseconds(function: Callable, *args, calls: int = 20) -> float:
  """The median time of a call, of several rounds of `calls`."""
  function = jax.jit(function)
  jax.block_until_ready(function(*args))
  times = []
  for _ in range(4):
    began = time.perf_counter()
    for _ in range(calls):
      out = function(*args)
    jax.block_until_ready(out)
    times.append((time.perf_counter() - began) / calls)
  return round(1e6 * statistics.median(times), 1)


def relative(a, b) -> float:
  """|a - b| / |b|, in float32."""
  a, b = (jnp.ravel(x).astype(jnp.float32) for x in (a, b))
  return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def precision() -> None:
  """float32 products are float32, not TF32."""
  a, b = (
    normal(512, 512, dtype=jnp.float32),
    normal(512, 512, dtype=jnp.float32),
  )
  exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
  show(default=relative(a @ b, exact), linear=relative(linear.dot(a, b), exact))


def ceilings() -> None:
  x, m = normal(2**29), normal(8192, 8192)
  show(copy_tb_s=2 * x.nbytes / microseconds(lambda x: x + 1, x) / 1e6)
  show(matmul_tflop_s=2 * 8192**3 / microseconds(lambda m: m @ m, m) / 1e6)
  x, w = normal(8192, 1536), normal(1536, 17920)
  show(
    product_us=microseconds(lambda x, w: x @ w, x, w),
    linear_us=microseconds(
      lambda x, w: linear.dot(x, w).astype(BFLOAT16), x, w
    ),
  )


def flash() -> None:
  """Values and gradients, and the time of a layer of the 1.5B model."""
  shapes = (2, 200, 2, 3, 64, 0), (2, 257, 2, 6, 128, 0), (2, 300, 1, 4, 64, 50)
  for B, T, K, G, C, window in shapes:
    q, k, v = normal(B, T, K, G, C), normal(B, K, T, C), normal(B, K, T, C)
    length_B1 = jnp.array([[T], [T // 2]])
    pos_BT = jnp.where(jnp.arange(T)[None] < length_B1, jnp.arange(T)[None], -1)
    real = (pos_BT >= 0)[:, :, None, None, None]
    form = attention.Form(C**-0.5)

    def plain(q, k, v, pos_BT=pos_BT, window=window, real=real, form=form):
      visible = attention.visible(pos_BT, pos_BT, window or None)
      return attention.attend(form, q, (k, v), visible) * real

    def fast(q, k, v, pos_BT=pos_BT, window=window, real=real, form=form):
      return gpu_attention.flash(form, q, (k, v), pos_BT, window) * real

    def results(attend, *args):
      out, vjp = jax.vjp(attend, *args)
      wave = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
      return out, *vjp(wave.astype(out.dtype))

    exact = results(plain, *(x.astype(jnp.float32) for x in (q, k, v)))
    show(
      flash=[B, T, K, G, C, window],
      errors=[relative(a, b) for a, b in zip(results(fast, q, k, v), exact)],
      plain=[relative(a, b) for a, b in zip(results(plain, q, k, v), exact)],
    )
  B, T, K, G, C = 4, 2048, 2, 6, 128
  q, k, v = normal(B, T, K, G, C), normal(B, K, T, C), normal(B, K, T, C)
  pos_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  form = attention.Form(C**-0.5)
  visible = attention.visible(pos_BT, pos_BT)
  for name, attend in dict(
    cudnn=lambda q, k, v: gpu_attention.flash(form, q, (k, v), pos_BT),
    einsum=lambda q, k, v: attention.attend(form, q, (k, v), visible),
  ).items():
    gradient = jax.grad(
      lambda *a, f=attend: f(*a).astype(jnp.float32).sum(), (0, 1, 2)
    )
    show(
      training=name,
      forward_us=microseconds(attend, q, k, v),
      gradient_us=microseconds(gradient, q, k, v),
    )


def decoding() -> None:
  """A decode step's attention, of rows that are full or half full on average,
  beside the time to read their keys and values at 4 TB/s."""
  for B, K, G, C, S in (
    (64, 2, 6, 128, 640),
    (64, 2, 6, 128, 2048),
    (64, 3, 3, 64, 640),
  ):
    q, k, v = normal(B, 1, K, G, C), normal(B, K, S, C), normal(B, K, S, C)
    form = attention.Form(C**-0.5)
    for length_B in (np.full(B, S), RANDOM.integers(1, S + 1, B)):
      length_B = jnp.asarray(length_B, jnp.int32)

      def plain(q, k, v, length_B, S=S, form=form):
        visible = attention.visible(length_B[:, None] - 1, jnp.arange(S)[None])
        return attention.attend(form, q, (k, v), visible)

      def filled(q, k, v, length_B, form=form):
        layer = attention.CachedLayer((k[None], v[None]), 0)
        return gpu_decode.attend_filled(
          form, q, layer, length_B - 1, length_B, None, q.shape[-1]
        )[0]

      q32, k32, v32 = (x.astype(jnp.float32) for x in (q, k, v))
      exact = plain(q32, k32, v32, length_B)
      times = {}
      for block in (32, 64, 128):
        for count in (264, 528, 1056):
          gpu_decode.BLOCK, gpu_decode.PROGRAMS = block, count
          # Another function for each, or jit would not trace it again.
          times[f'{block}/{count}'] = microseconds(
            lambda *a, f=filled: f(*a), q, k, v, length_B
          )
      gpu_decode.BLOCK, gpu_decode.PROGRAMS = 64, 528
      show(
        decoding=[B, K, G, C, S],
        filled=float(length_B.mean() / S),
        read_us=round(float(length_B.sum()) * K * C * 4 / 4e12 * 1e6, 1),
        einsum_us=microseconds(plain, q, k, v, length_B),
        kernel_us=times,
        error=relative(filled(q, k, v, length_B), exact),
        plain_error=relative(plain(q, k, v, length_B), exact),
      )


def main() -> None:
  device = jax.devices()[0]
  show(device=device.device_kind, jax=jax.__version__)
  for part in (precision, ceilings, decoding, flash):
    try:
      part()
    except Exception as error:  # the other parts are measured all the same
      show(
        failed=part.__name__, error=f'{type(error).__name__}: {error}'[:2000]
      )


if __name__ == '__main__':
  main()
