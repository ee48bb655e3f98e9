"""What Linux is asked to deny: the tables of landlock, seccomp and the resource
limits, as the plain numbers and bytes that `inside` hands to the kernel."""

import ctypes
import functools
import math
import os
import platform
import resource
import struct

from r1jax.sandbox import library

MACHINES = 'x86_64', 'aarch64'
AUDIT = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}

# What a program may ask of the kernel: a name and its numbers on x86_64 and on
# aarch64 ('-': there is none). All else is refused: sockets, signals to others,
# tracing, new processes and threads, exec, what changes files by their name.
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
# What `inside` itself calls, and what is allowed with some arguments only.
CALLS = """
prctl 157 167, capset 126 91, prlimit64 302 261,
landlock_create_ruleset 444 444, landlock_add_rule 445 445,
landlock_restrict_self 446 446, openat 257 56, fcntl 72 25, ioctl 16 29,
clone3 435 435
"""
EPERM, ENOTTY, ENOSYS = 1, 25, 38
FCNTL = 0, 1, 2, 3, 4, 1030  # F_DUPFD, F_GETFD … F_SETFL, F_DUPFD_CLOEXEC
ACCESS_MODE, TRUNCATED = 0o3, 0o1000
X32 = 0x40000000

# landlock: the rights over files that each version of it can deny.
ABI_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
LATEST_RIGHTS = 16
READ_FILE, READ_DIRECTORY, WRITE_FILE, TRUNCATE = 4, 8, 2, 1 << 14

SCRATCH = 16 << 20  # bytes of a file that a program may write, where it may
STACK, FILES = 64 << 20, 64


def machine():
  return platform.machine()


def numbers(table):
  """{name: number on this machine} of one of the tables above."""
  column = 1 + MACHINES.index(machine())
  rows = (row.split() for row in table.split(','))
  return {row[0]: int(row[column]) for row in rows if row[column] != '-'}


@functools.cache
def landlock_version():
  """The version of landlock that the kernel has, 0 for none."""
  number = numbers(CALLS)['landlock_create_ruleset']
  version = ctypes.CDLL(None, use_errno=True).syscall(number, 0, 0, 1)
  return max(version, 0)


def restrictions(limits, landlock):
  """What `inside` must lay upon itself before it runs a program."""
  return dict(
    numbers=numbers(CALLS),
    rlimits=rlimits(limits),
    filter=seccomp_filter(),
    landlock=landlock_rules() if landlock else None,
    parent=os.getpid() if landlock else 0,
  )


def rlimits(limits):
  """(resource, most) of everything that is limited, never more than here."""
  wanted = [
    (resource.RLIMIT_CPU, math.ceil(limits.seconds)),
    (resource.RLIMIT_AS, limits.memory),
    (resource.RLIMIT_FSIZE, SCRATCH),
    (resource.RLIMIT_NOFILE, FILES),
    (resource.RLIMIT_NPROC, 1),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_STACK, STACK),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_SIGPENDING, FILES),
  ]
  here = {x: resource.getrlimit(x)[1] for x, _ in wanted}
  return [
    (x, most if here[x] == resource.RLIM_INFINITY else min(most, here[x]))
    for x, most in wanted
  ]


@functools.cache
def landlock_rules():
  """(the bytes of the ruleset, [(path, rights over it)])."""
  version = landlock_version()
  rights = (1 << ABI_RIGHTS.get(version, LATEST_RIGHTS)) - 1
  # Beside files: TCP from version 4, abstract sockets and signals from 6.
  fields = [rights, 3, 3][: 1 + (version >= 4) + (version >= 6)]
  read, listed = library.pieces()
  rules = [
    (path, READ_FILE | (READ_DIRECTORY if os.path.isdir(path) else 0))
    for path in read
  ]
  rules += [(path, READ_DIRECTORY) for path in listed]
  device = (READ_FILE | WRITE_FILE | TRUNCATE) & rights
  rules += [(path, device) for path in library.existing(*library.DEVICES)]
  return struct.pack(f'={len(fields)}Q', *fields), rules


@functools.cache
def seccomp_filter():
  """The program of the kernel's filter: what it lets through, and no more."""
  known, here = numbers(CALLS), machine()
  lines = [load(4), *unless(AUDIT[here], [answer_kill()]), load(0)]
  if here == 'x86_64':
    lines += [line(0x35, X32, 0, 1), refuse(EPERM)]
  lines += [
    *when(known['openat'], opening()),
    *when(
      known['fcntl'],
      [
        load(argument(1)),
        *(x for n in FCNTL for x in when(n, [ALLOW])),
        refuse(EPERM),
      ],
    ),
    # To read its own limits, not to set them: a program that shortens its CPU
    # time would look as if it had been killed from outside.
    *when(
      known['prlimit64'],
      [
        load(argument(0)),
        *unless(0, [refuse(EPERM)]),
        load(argument(2)),
        *unless(0, [refuse(EPERM)]),
        load(argument(2) + 4),
        *unless(0, [refuse(EPERM)]),
        ALLOW,
      ],
    ),
    *when(known['ioctl'], [refuse(ENOTTY)]),
    *when(known['clone3'], [refuse(ENOSYS)]),
  ]
  for number in numbers(ALLOWED).values():
    lines += when(number, [ALLOW])
  return b''.join([*lines, refuse(EPERM)])


def opening():
  """Of openat: reading may not cut a file off; writing is for landlock, or the
  mounts, to deny."""
  return [
    load(argument(2)),
    line(0x45, ACCESS_MODE, 1, 0),
    line(0x45, TRUNCATED, 1, 0),
    ALLOW,
    line(0x54, ACCESS_MODE),
    *when(0, [refuse(EPERM)]),
    ALLOW,
  ]


def line(code, k, yes=0, no=0):
  """One instruction of the filter's machine."""
  return struct.pack('=HBBI', code, yes, no, k)


def load(offset):
  return line(0x20, offset)


def argument(n):
  """Where the lower half of a call's argument lies (little endian)."""
  return 16 + 8 * n


def when(value, body):
  return [line(0x15, value, 0, len(body)), *body]


def unless(value, body):
  return [line(0x15, value, len(body), 0), *body]


def refuse(error):
  return line(0x06, 0x00050000 | error)


def answer_kill():
  return line(0x06, 0x80000000)


ALLOW = line(0x06, 0x7FFF0000)
