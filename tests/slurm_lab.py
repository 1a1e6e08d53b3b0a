"""A throw-away SLURM on this machine: several nodes, everything in one folder, on loopback only.

Real slurmctld, slurmd and munged of the installed packages, with keys, sockets, ports and spool folders of
their own, so that several labs run side by side. A lab ends the processes that it started, and no others.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PROGRAMS = (
    "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "setpriv",
    "slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db",
)  # fmt: skip


def _missing() -> str:
    if lacking := [name for name in PROGRAMS if _program(name) is None]:
        return (
            f"SLURM is not installed here ({', '.join(lacking)} missing): apt-get install slurmctld slurmd slurm-client"
            " munge slurmdbd mariadb-server"
        )
    return "" if os.geteuid() == 0 else "a SLURM of several nodes on one machine needs root"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


needs_slurm = pytest.mark.skipif(bool(_missing()), reason=_missing())


class SlurmLab:
    """A small cluster: partition `main`, and `low`, whose jobs `main` preempts and puts back into the queue.

    Times are short: a node counts as dead after 20 s, a job is killed 5 s after SIGTERM. The GPUs are
    devices that SLURM counts and nobody can compute on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 3,
        cpus: int = 4,  # of each node, whatever the machine has
        gpus: int = 2,  # of each node
        memory_mb: int = 4000,  # of each node
        binds: bool = False,  # each task to its cores, of which the machine itself must have as many
        accounting: bool = False,  # with slurmdbd, so that sacct answers
        max_array: int = 1001,
        grace_seconds: int = 10,  # from SIGTERM to the kill of a preempted job
        forget_seconds: int = 300,  # from a job's end until slurmctld knows it no more
        further: str = "",  # lines of slurm.conf
    ) -> None:
        # A socket's path has at most 107 characters, and SLURM puts its own names behind the folder's.
        assert len(str(folder)) < 60, f"{folder} is too long for SLURM's sockets"
        self.folder, self.nodes, self.accounting = folder, [f"node{number + 1}" for number in range(nodes)], accounting
        self.host = socket.gethostname().partition(".")[0]
        self._cpus, self._gpus, self._memory_mb = cpus, gpus, memory_mb
        self._max_array, self._grace_seconds, self._forget_seconds = max_array, grace_seconds, forget_seconds
        self._binds, self._further = binds, further
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        # The lab's own environment: nothing of a cluster that this very process may be a job of.
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_"))}
        self.env |= {
            "SLURM_CONF": str(folder / "etc" / "slurm.conf"),
            "PATH": f"{self.env.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        }

    def __enter__(self) -> Self:
        """Start the daemons; ready when every node is idle."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End jobs and daemons."""
        self.stop()

    # -- what a test asks and does

    def run(self, *command: str, timeout: float = 30) -> str:
        """Return a program's output, or fail with what it said."""
        result = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout)
        assert result.returncode == 0, f"{' '.join(command)}: {result.stderr or result.stdout}"
        return result.stdout

    def states(self) -> dict[str, str]:
        """Return {job id, such as 3 or 3_0: state} of every job that slurmctld still knows."""
        lines = self.run("squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i|%T").splitlines()
        return dict(line.split("|") for line in lines)

    def nodes_of(self) -> dict[str, str]:
        """Return {job id: node} of the jobs that run."""
        lines = self.run("squeue", "-h", "-r", "-a", "-t", "running", "-o", "%i|%N").splitlines()
        return dict(line.split("|") for line in lines)

    def await_states(self, wanted: dict[str, str], timeout: float = 60) -> None:
        """Wait until jobs have these states."""
        wait_until(
            lambda: wanted.items() <= self.states().items(), timeout, lambda: f"{wanted}; jobs are {self.states()}"
        )

    def restarts(self, job: str) -> int:
        """Return how often SLURM put a job back into the queue."""
        (count,) = re.findall(r" Restarts=(\d+)", self.run("scontrol", "show", "job", job))
        return int(count)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut would: slurmd, its step daemons and what runs below them."""
        # First what runs: a slurmd that is still alive would report it.
        pids = self._steps(node)
        self._end_daemon(f"slurmd.{node}", signal.SIGKILL)
        self._kill(pids + self._steps(node))

    def cut_off(self, node: str) -> None:
        """Take a node from the cluster while what runs on it goes on."""
        self._end_daemon(f"slurmd.{node}", signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node again."""
        self._daemon(f"slurmd.{node}", "slurmd", "-D", "-N", node)

    def fail_prolog(self, node: str) -> None:
        """Let a node's prolog fail from now on, so that it can start no job."""
        (self.folder / "etc" / f"bad-{node}").touch()

    def mend_prolog(self, node: str) -> None:
        """Let a node start jobs again, which SLURM has drained meanwhile."""
        (self.folder / "etc" / f"bad-{node}").unlink()
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def stop_controller(self) -> None:
        """End slurmctld: nothing answers any more."""
        self._end_daemon("slurmctld", signal.SIGTERM)

    def start_controller(self) -> None:
        """Start slurmctld again, with the jobs that it knew."""
        self._daemon("slurmctld", "slurmctld", "-D")

    def await_nodes(self, timeout: float = 60) -> None:
        """Wait until every node is idle or at work."""
        wait_until(lambda: len(self._ready_nodes()) == len(self.nodes), timeout, self.log)

    def pids(self, node: str | None = None) -> list[int]:
        """Return the processes of jobs, of one node or of all."""
        wanted = [f"SLURM_CONF={self.env['SLURM_CONF']}"] + ([f"SLURMD_NODENAME={node}"] if node else [])
        found = []
        for pid, environment in _environments():
            if "SLURMD_NODENAME=" in environment and all(f"\0{item}\0" in environment for item in wanted):
                found.append(pid)
        return found

    def log(self) -> str:
        """Return the last lines of the daemons' logs, for a message about a failure."""
        parts = [
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted((self.folder / "log").iterdir())
        ]
        return "\n".join(parts)

    # -- start and end

    def _start(self) -> None:
        for name in ("etc", "state", "spool", "log", "run", "dev", "mysql"):
            (self.folder / name).mkdir(parents=True)
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir()
        for gpu in range(self._gpus):
            # SLURM counts only GPUs that have a character device; this one is another /dev/null.
            os.mknod(self.folder / "dev" / f"gpu{gpu}", 0o666 | 0o020000, os.makedev(1, 3))
        self._munge()
        ports = _free_ports(len(self.nodes) + 2)
        if self.accounting:
            self._data_base(ports[1])
        self._write_conf(ports[0], ports[1], ports[2:])
        if self.accounting:
            wait_until(lambda: self._answers("sacctmgr", "-n", "-P", "list", "cluster"), 30, "slurmdbd")
        self._daemon("slurmctld", "slurmctld", "-D", "-i")
        for node in self.nodes:
            self.start_node(node)
        self.await_nodes()

    def stop(self) -> None:
        """End every job and every daemon of this lab."""
        if "slurmctld" in self._daemons:
            with suppress(Exception):
                self.run("scancel", "--full", "--signal=KILL", "-u", "root", timeout=10)
            with suppress(Exception):
                self.run("scancel", "-u", "root", timeout=10)
            with suppress(TimeoutError):
                wait_until(lambda: not self.pids(), 3, "jobs to end")
        for node in self.nodes:
            self._kill(self._steps(node))
        # slurmctld before the data base that it reports to, and munge, which all need, at the end.
        for name in sorted(self._daemons, key=lambda name: (name == "munged", name in ("mariadbd", "slurmdbd"))):
            self._end_daemon(name, signal.SIGTERM)
        self._kill(self.pids())

    def _munge(self) -> None:
        key = self.folder / "etc" / "munge.key"
        key.write_bytes(random.SystemRandom().randbytes(128))
        key.chmod(0o400)
        place = self.folder
        place.chmod(0o755)
        self._daemon(
            "munged",
            "munged", "--foreground", f"--key-file={key}", f"--socket={place}/run/munge.sock",
            f"--pid-file={place}/run/munged.pid", f"--log-file={place}/log/munged.log",
            f"--seed-file={place}/state/munged.seed",
        )  # fmt: skip
        wait_until(lambda: self._answers("munge", "-S", f"{place}/run/munge.sock", "-n"), 20, "munged")

    def _data_base(self, port: int) -> None:
        place = self.folder
        self.run(
            "mariadb-install-db", "--user=root", f"--datadir={place}/mysql",
            "--auth-root-authentication-method=socket", "--skip-test-db", timeout=120,
        )  # fmt: skip
        self._daemon(
            "mariadbd",
            "mariadbd", "--no-defaults", "--user=root", f"--datadir={place}/mysql", f"--socket={place}/run/mysql.sock",
            "--skip-networking", f"--pid-file={place}/run/mysql.pid", "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        self.env["MYSQL_UNIX_PORT"] = f"{place}/run/mysql.sock"
        client = ("mariadb", "--no-defaults", "-S", f"{place}/run/mysql.sock", "-u", "root", "-e", "select 1")
        wait_until(lambda: self._answers(*client), 30, "mariadbd")
        conf = place / "etc" / "slurmdbd.conf"
        conf.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={place}/run/munge.sock\nDbdHost={self.host}\nDbdAddr=127.0.0.1\n"
            f"DbdPort={port}\nSlurmUser=root\nPidFile={place}/run/slurmdbd.pid\nLogFile={place}/log/slurmdbd.log\n"
            "StorageType=accounting_storage/mysql\nStorageHost=localhost\nStorageUser=root\nStorageLoc=slurm_acct_db\n"
            "CommunicationParameters=NoInAddrAny\n"
        )
        conf.chmod(0o600)
        # slurm.conf must be there for slurmdbd to start, and is written again with everything in it.
        (place / "etc" / "slurm.conf").write_text(f"ClusterName=lab\nSlurmctldHost={self.host}(127.0.0.1)\n")
        self._daemon("slurmdbd", "slurmdbd", "-D")

    def _write_conf(self, port: int, data_base_port: int, node_ports: list[int]) -> None:
        place = self.folder
        prolog = place / "etc" / "prolog"
        prolog.write_text(f'#!/bin/sh\n[ ! -e {place}/etc/bad-"$SLURMD_NODENAME" ]\n')
        prolog.chmod(0o755)
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = (
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
                f"AccountingStoragePort={data_base_port}\nAccountingStoragePass={place}/run/munge.sock\n"
                "AccountingStorageTRES=gres/gpu"
            )
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={node_port} CPUs={self._cpus}"
            f" RealMemory={self._memory_mb}" + (f" Gres=gpu:{self._gpus}" if self._gpus else "")
            for node, node_port in zip(self.nodes, node_ports, strict=True)
        )
        (place / "etc" / "slurm.conf").write_text(
            f"""ClusterName=lab
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its old credential has ended: 5 s instead of 120.
AuthInfo=socket={place}/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool/%n
SlurmctldPidFile={place}/run/slurmctld.pid
SlurmdPidFile={place}/run/slurmd.%n.pid
SlurmctldLogFile={place}/log/slurmctld.log
SlurmdLogFile={place}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
Prolog={prolog}
TaskPlugin={"task/affinity" if self._binds else "task/none"}
TaskPluginParam={"Cores" if self._binds else "None"}
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
MinJobAge={self._forget_seconds}
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize={self._max_array}
{accounting}
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime={self._grace_seconds} State=UP
{self._further}
"""
        )
        gres = f"Name=gpu File={place}/dev/gpu[0-{self._gpus - 1}]\n" if self._gpus else ""
        (place / "etc" / "gres.conf").write_text(gres)

    def _daemon(self, name: str, *command: str) -> None:
        program = _program(command[0])
        assert program is not None, command[0]
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                # Should the tests be killed, the kernel ends the daemon.
                ["setpriv", "--pdeathsig", "TERM", "--", program, *command[1:]],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _end_daemon(self, name: str, number: signal.Signals) -> None:
        process = self._daemons.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _steps(self, node: str) -> list[int]:
        """Return the step daemons of a node, which outlive its slurmd, and the processes of its jobs."""
        log = str(self.folder / "log" / f"slurmd.{node}.log")
        return [pid for pid in _pids("slurmstepd") if log in _open_files(pid)] + self.pids(node)

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _ready_nodes(self) -> set[str]:
        lines = self._output("sinfo", "-h", "-N", "-p", "main", "-o", "%N|%T").splitlines()
        states = dict(line.split("|") for line in lines)
        return {node for node, state in states.items() if state in ("idle", "mixed", "allocated", "completing")}

    def _answers(self, *command: str) -> bool:
        result = subprocess.run(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        return result.returncode == 0

    def _output(self, *command: str) -> str:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30).stdout


def wait_until(condition: Callable[[], object], timeout: float, what: str | Callable[[], str]) -> None:
    """Wait until something holds; TimeoutError, with `what`, if it does not in `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for: {what if isinstance(what, str) else what()}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, outside the range that the kernel gives away."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(10_000, 32_000), 2_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"no {count} free ports")


def _pids(name: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if (entry / "comm").read_text().strip() == name:
                yield int(entry.name)


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(entry.path))
    return found


def _environments() -> Iterator[tuple[int, str]]:
    """Yield (pid, environment) of every process, the variables between null characters."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            yield int(entry.name), "\0" + (entry / "environ").read_text(errors="replace")
