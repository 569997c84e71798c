"""Start one server detached from the process that asks for it, as root or as an ordinary user.

Run as a script (`python -I -S launch.py …`), it leaves the server behind as nobody's child: it survives the
command that started it, and no test has to reap it. It imports the standard library alone.

Postgres refuses to run as root. Two ways lead around that, and neither touches a permission of any folder:

- `userns`: a user namespace in which root's files belong to an ordinary user id. The server owns what root
  owns and holds no capability. Container engines often forbid it.
- `caps`: become that ordinary user but keep the capability to pass by file permissions, so that a folder
  below a private home stays reachable. This also works in containers with their usual capabilities.
"""

import ctypes
import os
import pwd
import sys
import time

_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_SECBIT_KEEP_CAPS = 1 << 4
_POLL_SECONDS = 0.001
_ARGUMENTS = "/proc/{}/cmdline"


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def ordinary_user() -> tuple[int, int]:
    """A user id and group id that are not root's and that have a name, as initdb wants one."""
    users = sorted(pwd.getpwall(), key=lambda user: (user.pw_name != "nobody", user.pw_uid))
    return next((user.pw_uid, user.pw_gid) for user in users if user.pw_uid and user.pw_gid)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _enter_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = ordinary_user()
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _check(libc.unshare(_CLONE_NEWUSER), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outer_uid} 1"),
        ("gid_map", f"{gid} {outer_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 -- pathlib costs start-up time
            file.write(text)


def _become_ordinary_user() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = ordinary_user()
    # Without NO_SETUID_FIXUP access(2) ignores capabilities, and initdb's search for its own program uses it.
    _check(libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP | _SECBIT_KEEP_CAPS, 0, 0, 0), "securebits")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    data = (_CapabilityData * 2)()
    data[0].effective = data[0].permitted = data[0].inheritable = 1 << _CAP_DAC_OVERRIDE
    _check(libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), data), "capset")
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0), "ambient capability")


_IDENTITIES = {"same": lambda: None, "userns": _enter_user_namespace, "caps": _become_ordinary_user}


def _detach(log: str) -> None:
    """Fork; the child goes on alone, writing to the log; the parent ends once the child is the server."""
    running, starting = os.pipe()
    if child := os.fork():
        os.close(starting)
        # Ends when exec closes the other end, or the child dies.
        os.read(running, 1)
        await_arguments(child)
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)


def await_arguments(child: int) -> None:
    """Wait until a child that has become the server shows its arguments, by which it is known; or has ended.

    For up to 26 ms after exec had closed the pipe, Linux was seen to show none (on two busy cores).
    """
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        try:
            with open(_ARGUMENTS.format(child), "rb") as file:  # noqa: PTH123 -- as above
                if file.read(1):
                    return
        except OSError:
            # Another system than Linux, or one that shows processes to their owners alone.
            return
        time.sleep(_POLL_SECONDS)


def main(identity: str, log: str, *command: str) -> None:
    """Become `identity` and run `command`: detached and writing to `log`, or right here if that is empty."""
    if log:
        _detach(log)
    try:
        _IDENTITIES[identity]()
        os.execv(command[0], command)  # noqa: S606 -- becoming the server is this program's job
    except OSError as error:
        sys.stderr.write(f"can't start {command[0]} ({identity}): {error}\n")
        sys.stderr.flush()
        os._exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
