"""Attacks on the kernel and on other processes: children, signals, calls."""

CHILDREN = r"""
#: *forks: eight children, which live for a while
def fork():
  for _ in range(8):
    if not os.fork(): time.sleep(8); os._exit(0)
  return 'forked'
attempt(fork)
score = yes
#: *daemon: a grandchild in a session of its own
def daemon():
  if os.fork(): return 'forked'
  os.setsid()
  if os.fork(): os._exit(0)
  each_fd(os.close)
  time.sleep(15); os._exit(0)
attempt(daemon)
score = yes
#: threads that stay [function 2]: the process ends only after them
import threading
for daemon in (True, False) * 4:
  t = threading.Thread(target=time.sleep, args=(8,), daemon=daemon)
  try: t.start()
  except RuntimeError: pass
score = yes
#: *thread bomb: uses up the machine's threads
import _thread
_thread.stack_size(1 << 15)
def bomb():
  for _ in range(200): _thread.start_new_thread(time.sleep, (1,))
  return 'started 200 threads'
attempt(bomb)
score = yes
#: the first thread ends: the others continue
import _thread, ctypes
def go_on():
  time.sleep(8); each_fd(os.write, TRUE)
def leave():
  for _ in range(2): _thread.start_new_thread(go_on, ())
  ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
try: leave()
except RuntimeError: pass
score = yes
#: other programs: a shell that outlives its parent
import subprocess
for command in ['/bin/sleep', '8'], ['/bin/sh', '-c', 'sleep 8 &']:
  attempt(subprocess.Popen, command, start_new_session=True)
attempt(os.posix_spawn, '/bin/sleep', ['sleep', '8'], {})
attempt(lambda: os.system('sleep 8 &') and 1 / 0)
score = yes
#: pools: processes and threads by modules
import concurrent.futures as c
def pool(): return list(c.ProcessPoolExecutor(2).map(abs, [1]))
attempt(pool)
def process():
  import multiprocessing
  p = multiprocessing.Process(target=time.sleep, args=(8,)); p.start()
attempt(process)
def terminal():
  if not os.forkpty()[0]: time.sleep(8); os._exit(0)
  return 'forked'
attempt(terminal)
score = yes
#: *raw clones: new processes by system calls
def clone(x86, arm, *args):
  if not (result := syscall(x86, arm, *args)): time.sleep(8); os._exit(0)
clone(56, 220, 17, 0, 0, 0, 0)
clone(57, 220, 17, 0, 0, 0, 0)
clone(435, 435, b'\0' * 32 + b'\x11' + b'\0' * 55, 88)
clone(56, 220, 0x10000 | 0x10000000, 0, 0, 0, 0)  # a thread, in a namespace
clone(56, 220, 0x8000 | 17, 0, 0, 0, 0)  # a child of its parent
score = yes
#: own session [stdin]: leaves the group that will be killed
attempt(os.setsid)
attempt(os.setpgid, 0, 0)
attempt(os.setpgrp)
print(GOT)
"""

SIGNALS = r"""
#: *kills its parent: the grader
for n in 0, signal.SIGKILL, signal.SIGSTOP:
  attempt(os.kill, os.getppid(), n)
score = yes
#: kills its group: and all processes in it
for n in 0, signal.SIGSTOP, signal.SIGKILL:
  attempt(os.killpg, 0, n)
score = yes
#: *signals by other calls: to a thread, with a value, by a handle
parent = os.getppid()
for call in ((200, 130, parent, 9), (234, 131, parent, parent, 9),
             (129, 138, parent, 9, bytes(128))): syscall(*call)
score = yes
#: stops itself: until another process continues it
attempt(os.kill, os.getpid(), signal.SIGSTOP)
attempt(signal.raise_signal, signal.SIGSTOP)
score = yes
#: *ignores all signals [function 1]: and continues after its time
for n in range(1, 65):
  try: signal.signal(n, signal.SIG_IGN)
  except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def score(xs):
  end = time.time() + 8
  while time.time() < end: pass
#: signals of descriptors: makes the kernel signal another process
import fcntl
for fd in 0, 1, 2:
  attempt(fcntl.fcntl, fd, 8, os.getppid())
  attempt(fcntl.fcntl, fd, 10, 9)
score = yes
#: parent's limits and priority: slows the grader
import resource
attempt(resource.prlimit, os.getppid(), resource.RLIMIT_CORE)
attempt(os.setpriority, os.PRIO_PROCESS, os.getppid(), 19)
syscall(314, 274, os.getppid(), 0, 0)
score = yes
#: *pretends a kill [function 2]: lowers its own time, to be masked
import resource
try: resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
except (OSError, ValueError): pass
def score(xs):
  end = time.time() + 8
  while time.time() < end: pass
#: pretends a kill, as a program [stdin 2]: the same
import resource
try: resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
except (OSError, ValueError): pass
end = time.time() + 8
while time.time() < end: pass
#: kills itself: as if killed by another process
attempt(os.kill, os.getpid(), signal.SIGKILL)
syscall(200, 130, os.getpid(), 9)
def score(xs): os.abort()
"""

KERNEL = r"""
#: *new namespaces: with a root of its own
for flag in 0x10000000, 0x20000, 0x40000000, 0x20000000: syscall(272, 97, flag)
score = yes
#: mounts: another file system over a protected one
for x86, arm in (165, 40), (166, 39), (155, 41), (428, 428), (430, 430):
  syscall(x86, arm, 0, 0, 0, 0, 0)
score = yes
#: *programs in the kernel: bpf, perf events, userfaultfd
for x86, arm in (321, 280), (298, 241), (323, 282):
  syscall(x86, arm, -1, 0, 0, 0, 0)
score = yes
#: keys: the keyring of the grader's user
syscall(250, 219, 0, -3, 0)
syscall(250, 219, 6, -4, 0)
score = yes
#: joins another's namespaces: those of the first process
attempt(open, '/proc/1/ns/mnt')
syscall(308, 268, -1, 0)
score = yes
#: *raises its limits: memory, time, processes, files
import resource
for name in 'AS', 'CPU', 'NPROC', 'FSIZE', 'NOFILE', 'CORE':
  limit = getattr(resource, 'RLIMIT_' + name)
  soft, hard = resource.getrlimit(limit)
  if hard == -1: GOT.append('r1jax_escaped ' + name)
  attempt(resource.setrlimit, limit, (hard + 1, hard + 1))
  attempt(resource.setrlimit, limit, (-1, -1))
score = yes
#: loosens its limits: dumpable, capabilities, user, personality
syscall(157, 167, 4, 1, 0, 0, 0)
syscall(157, 167, 1, 0, 0, 0, 0)
syscall(135, 92, 0xffffffff)
syscall(126, 91, (0x20080522).to_bytes(4, sys.byteorder) + bytes(4), b'\xff' * 24)
for change in os.setuid, os.setgid: attempt(change, 0)
score = yes
#: filters and rules of its own: added to those that apply
import ctypes
syscall(317, 277, 1, 0, bytes(16))
syscall(444, 444, bytes(range(8)), 8, 0)
syscall(157, 167, 22, 1)
score = yes
#: handles of files: opens by number, without a path
syscall(303, 264, -100, SECRET.encode(), bytes(8) + bytes(128), bytes(8), 0)
syscall(304, 265, -100, bytes(136), 0)
score = yes
#: calls of another machine: 32 bits, with other numbers
import ctypes, mmap
if os.uname().machine == 'x86_64':
  for n in 39, 41, 520: syscall(0x40000000 | n, 0, 0, 0, 0)
  page = mmap.mmap(-1, 4096, prot=7)
  page.write(bytes.fromhex('b814000000cd80c3'))  # getpid by int 0x80
  where = ctypes.addressof(ctypes.c_char.from_buffer(page))
  GOT.append(f'r1jax_escaped {ctypes.CFUNCTYPE(ctypes.c_int)(where)()}')
score = yes
#: large numbers: the filter reads 32 of 64 bits
syscall((1 << 32) + 41, (1 << 32) + 198, 2, 1, 0)
syscall(257, 56, -100, SECRET.encode(), 1 << 32, 0)
score = yes
#: old calls: ports, segments, modules, logs, quotas, watches
for x86, arm in ((172, 999), (154, 999), (175, 105), (179, 60), (300, 262),
                 (294, 26), (212, 999), (156, 999)): syscall(x86, arm, 0, 0, 0)
syscall(103, 116, 10, 0, 0)
score = yes
#: terminal: types into the terminal that started the grader
import fcntl, termios
for fd in 0, 1, 2:
  attempt(fcntl.ioctl, fd, termios.TIOCSTI, b'#')
  attempt(fcntl.ioctl, fd, termios.FIONREAD, bytes(4))
attempt(open, '/dev/tty', 'w')
score = yes
#: locks [stdin]: files that the grader may need
import fcntl
for path in SECRET, os.__file__, '/dev/null':
  def lock(): fcntl.lockf(open(path, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)
  attempt(lock)
  def lease(): fcntl.flock(os.open(path, 0), fcntl.LOCK_EX | fcntl.LOCK_NB)
  attempt(lease)
print(GOT)
"""

THEMES = {'children': CHILDREN, 'signals': SIGNALS, 'kernel': KERNEL}
