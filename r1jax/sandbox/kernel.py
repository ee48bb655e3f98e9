"""The restrictions of a sandboxed process: a seccomp filter, landlock rules and
resource limits, as the numbers and bytes that `inside` passes to the kernel."""

import ctypes
import functools
import math
import os
import platform
import resource
import struct

from r1jax.sandbox import library
from r1jax.sandbox.outcome import Limits

MACHINES = 'x86_64', 'aarch64'
AUDIT = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}

# The system calls that a program may make: name, number on x86_64, number on
# aarch64 ('-': none). All others fail, among them sockets, signals to others,
# tracing, new processes and threads, exec, and changes of files by name.
ALLOWED = """
read 0 63, write 1 64, close 3 57, lseek 8 62, mmap 9 222, mprotect 10 226,
munmap 11 215, brk 12 214, mremap 25 216, madvise 28 233, msync 26 227,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigsuspend 130 133,
sigaltstack 131 132, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66,
fstat 5 80, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44,
faccessat 269 48, faccessat2 439 439, readlinkat 267 78, getdents64 217 61,
getcwd 79 17, fadvise64 221 223, fsync 74 82, fdatasync 75 83, stat 4 -,
lstat 6 -, access 21 -, readlink 89 -, getdents 78 -, dup 32 23, dup3 292 24,
pipe2 293 59, dup2 33 -, pipe 22 -, select 23 -, pselect6 270 72, poll 7 -,
ppoll 271 73, epoll_create1 291 20, epoll_ctl 233 21, epoll_pwait 281 22,
epoll_wait 232 -, eventfd2 290 19, sched_yield 24 124, nanosleep 35 101,
clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
gettimeofday 96 169, time 201 -, times 100 153, getrusage 98 165,
setitimer 38 103, getitimer 36 102, alarm 37 -, pause 34 -, getpid 39 172,
getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175,
getgid 104 176, getegid 108 177, getgroups 115 158, getresuid 118 148,
getresgid 120 150, getpgid 121 155, getpgrp 111 -, getsid 124 156,
getpriority 140 141, umask 95 166, uname 63 160, sysinfo 99 179,
getrlimit 97 163, sched_getaffinity 204 123, getcpu 309 168, futex 202 98,
set_tid_address 218 96, set_robust_list 273 99, rseq 334 293,
getrandom 318 278, arch_prctl 158 -, membarrier 324 283, exit 60 93,
exit_group 231 94, restart_syscall 219 128
"""
# The system calls of `inside`, and those that are allowed with some arguments.
CALLS = """
prctl 157 167, capset 126 91, prlimit64 302 261,
landlock_create_ruleset 444 444, landlock_add_rule 445 445,
landlock_restrict_self 446 446, openat 257 56, fcntl 72 25, ioctl 16 29,
clone3 435 435
"""
EPERM, ENOTTY, ENOSYS = 1, 25, 38
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
FCNTL_COMMANDS = 0, 1, 2, 3, 4, 1030
ACCESS_MODE, TRUNCATED = 0o3, 0o1000  # flags of openat
X32 = 0x40000000  # set in the numbers of x86_64's second table of calls

# Instructions of a seccomp filter (linux/bpf_common.h).
LOAD, RETURN = 0x20, 0x06
IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x35, 0x45
CALL_NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in its input

# Rights over files: how many of them each version of landlock can deny.
ABI_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
LATEST_RIGHTS = 16
READ_FILE, READ_DIRECTORY, WRITE_FILE, TRUNCATE = 4, 8, 2, 1 << 14

MAX_FILE = 16 << 20  # bytes of a file, though none can be created
STACK, FILES = 120 << 20, 64  # Linux leaves a gap of 128 MiB below the stack
NO_SUITE = 100  # tests whose CPU time a suite without a limit may use


def numbers(table: str) -> dict[str, int]:
  """{name: number on this machine} of one of the tables above."""
  column = 1 + MACHINES.index(platform.machine())
  found = {}
  for row in table.split(','):
    fields = row.split()
    if fields[column] != '-':
      found[fields[0]] = int(fields[column])
  return found


@functools.cache
def landlock_version() -> int:
  """The kernel's version of landlock, 0 without it."""
  number = numbers(CALLS)['landlock_create_ruleset']
  version = ctypes.CDLL(None, use_errno=True).syscall(number, 0, 0, 1)
  return max(version, 0)


def restrictions(limits: Limits, use_landlock: bool) -> dict:
  """What `inside` applies to its process before it runs a program."""
  return dict(
    numbers=numbers(CALLS),
    rlimits=rlimits(limits),
    filter=seccomp_filter(),
    landlock=landlock_rules() if use_landlock else None,
    parent=os.getpid() if use_landlock else 0,  # else it is bubblewrap
  )


def cpu_limit(limits: Limits) -> int:
  """CPU seconds after which the kernel kills a process. It may serve the calls
  of a whole suite, of which the parent limits each."""
  return math.ceil(limits.suite_seconds or NO_SUITE * limits.seconds)


def rlimits(limits: Limits) -> list[tuple[int, int]]:
  """[(resource, maximum)], none above the maximum of this process."""
  wanted = {
    resource.RLIMIT_CPU: cpu_limit(limits),
    resource.RLIMIT_AS: limits.memory,
    resource.RLIMIT_FSIZE: MAX_FILE,
    resource.RLIMIT_NOFILE: FILES,
    resource.RLIMIT_NPROC: 1,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_STACK: STACK,
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_SIGPENDING: FILES,
  }
  found = []
  for kind, maximum in wanted.items():
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
      maximum = min(maximum, hard)
    found.append((kind, maximum))
  return found


@functools.cache
def landlock_rules() -> tuple[bytes, list[tuple[str, int]]]:
  """(the ruleset's bytes, [(path, rights below it)])."""
  version = landlock_version()
  rights = (1 << ABI_RIGHTS.get(version, LATEST_RIGHTS)) - 1
  # Beside files: TCP from version 4, abstract sockets and signals from 6.
  fields = [rights, 3, 3][: 1 + (version >= 4) + (version >= 6)]
  readable, listed = library.landlock_paths()
  rules = [
    (path, READ_FILE | (READ_DIRECTORY if os.path.isdir(path) else 0))
    for path in readable
  ]
  rules += [(path, READ_DIRECTORY) for path in listed]
  device = (READ_FILE | WRITE_FILE | TRUNCATE) & rights
  rules += [(path, device) for path in library.existing(*library.DEVICES)]
  return struct.pack(f'={len(fields)}Q', *fields), rules


@functools.cache
def seccomp_filter() -> bytes:
  """Allows ALLOWED, and some of CALLS with some arguments. Other calls fail;
  those of another architecture kill the process."""
  machine, number = platform.machine(), numbers(CALLS)
  code = [_instruction(LOAD, ARCHITECTURE)]
  code += _unless(AUDIT[machine], KILL)
  code += [_instruction(LOAD, CALL_NUMBER)]
  if machine == 'x86_64':
    code += [_instruction(IF_AT_LEAST, X32, 0, 1), _fail(EPERM)]
  # O_TRUNC needs write access. Landlock or the mounts deny writing.
  openat = [_argument(2), _instruction(IF_ANY_BIT, ACCESS_MODE, 1, 0)]
  openat += [_instruction(IF_ANY_BIT, TRUNCATED, 1, 0), ALLOW, _fail(EPERM)]
  code += _when(number['openat'], *openat)
  fcntl = [_argument(1)]
  for command in FCNTL_COMMANDS:
    fcntl += _when(command, ALLOW)
  code += _when(number['fcntl'], *fcntl, _fail(EPERM))
  # A process may read its own limits. If it lowered its CPU time, it would seem
  # to be killed by another process.
  prlimit = []
  for half in (_argument(0), _argument(2), _argument(2, upper=True)):
    prlimit += [half, *_unless(0, _fail(EPERM))]
  code += _when(number['prlimit64'], *prlimit, ALLOW)
  code += _when(number['ioctl'], _fail(ENOTTY))
  code += _when(number['clone3'], _fail(ENOSYS))
  for allowed in numbers(ALLOWED).values():
    code += _when(allowed, ALLOW)
  return b''.join([*code, _fail(EPERM)])


def _instruction(operation, value, if_true=0, if_false=0):
  """if_true and if_false are numbers of instructions to skip."""
  return struct.pack('=HBBI', operation, if_true, if_false, value)


def _argument(n, upper=False):
  """Loads the lower or upper half of argument n of the call."""
  return _instruction(LOAD, ARGUMENTS + 8 * n + 4 * upper)


def _when(value, *code):
  """The code, run if the loaded number is the value."""
  return [_instruction(IF_EQUAL, value, 0, len(code)), *code]


def _unless(value, *code):
  return [_instruction(IF_EQUAL, value, len(code), 0), *code]


def _fail(error):
  return _instruction(RETURN, 0x00050000 | error)


ALLOW = _instruction(RETURN, 0x7FFF0000)
KILL = _instruction(RETURN, 0x80000000)
