#!/usr/bin/env python3
"""configs/slurm at work: each sbatch file under a Slurm of its own, of one slurmctld and two slurmd on loopback, on trainings of
seconds.

    slurm.py BUILD

Exit status 77 (skipped), with the reason, where Slurm or munge are not installed or do not start. Nothing is left running.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "configs/slurm"
MPIS = {"pmix": "KV_RUN_OPENMPI", "pmi2": "KV_RUN_MPICH"}  # what srun calls them, and the sign of a module for them
PATIENCE = 120  # seconds for what takes two


class Skip(Exception):
    """Why there is no Slurm here."""


def wait_until(what, found, patience=PATIENCE):
    end = time.monotonic() + patience
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s in vain until {what}")
        time.sleep(0.05)


class Cluster:
    """Two nodes that are this machine, each with four CPUs or what it takes for that."""

    def __init__(self, directory):
        self.dir = directory
        self.conf = directory / "slurm.conf"
        self.daemons = []
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "PMI", "OMP_"))}
        self.environment |= {"SLURM_CONF": str(self.conf), "KVTRAIN": str(BUILD / "train/kvtrain"), "OMP_WAIT_POLICY": "passive",
                             "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}

    def start(self):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        found = {name: shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "sbatch", "munged")}
        missing = [name for name, where in found.items() if not where]
        if missing:
            raise Skip(f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)")
        for name in ("state", "log", "n1", "n2", "tmp.n1", "tmp.n2"):
            (self.dir / name).mkdir()
        key, sock = self.dir / "munge.key", self.dir / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.write_conf(sock)
        self.daemon(found["munged"], "--foreground", "--force", f"--socket={sock}", f"--key-file={key}", f"--pid-file={self.dir}/munged.pid",
                    f"--log-file={self.dir}/log/munged", f"--seed-file={self.dir}/munged.seed")
        self.until("munge has a socket", sock.exists)
        self.daemon(found["slurmctld"], "-D", "-f", self.conf)
        for node in ("n1", "n2"):
            self.daemon(found["slurmd"], "-D", "-f", self.conf, "-N", node)
        self.until("both nodes are idle", lambda: self.said("sinfo", "-h", "-t", "idle", "-o", "%D") == "2")

    def until(self, what, found):
        """What keeps it from that is a reason not to test here."""
        try:
            wait_until(what, lambda: found() or self.dead(), 20)
        except AssertionError as error:
            raise Skip(f"{error}\n{self.logs()}") from None
        if self.dead():
            raise Skip(f"{self.dead()} has ended\n{self.logs()}")

    def dead(self):
        return next((process.args[0] for process in self.daemons if process.poll() is not None), None)

    def logs(self):
        lines = [line for log in sorted((self.dir / "log").iterdir()) for line in log.read_text(errors="replace").splitlines()]
        return "\n".join([line for line in lines if "rror" in line or "fatal" in line][-12:])

    def daemon(self, *words):
        with open(self.dir / "log" / f"{Path(words[0]).name}.{len(self.daemons)}", "w") as log:
            self.daemons.append(subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                                 env=self.environment, cwd=self.dir))

    def write_conf(self, sock):
        """No accounting, no control groups, no root."""
        sockets = [socket.socket() for _ in range(3)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        host, user = socket.gethostname().split(".")[0], subprocess.check_output(["id", "-un"], text=True).strip()
        nodes = "\n".join(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4"
                          for name, port in zip(("n1", "n2"), ports[1:]))
        self.conf.write_text(f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={sock}
CredType=cred/munge
StateSaveLocation={self.dir}/state
SlurmdSpoolDir={self.dir}/%n
TmpFS={self.dir}/tmp.%n
SlurmctldPidFile={self.dir}/slurmctld.pid
SlurmdPidFile={self.dir}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=60
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=n1,n2 Default=YES State=UP
""")

    def stop(self):
        for how in ((), ("--full", "--signal=KILL")) if self.daemons else ():
            self.said("scancel", *how, "--user", str(os.getuid()))
            try:
                wait_until("no job is left", lambda: not self.said("squeue", "-h"), 20)
                break
            except AssertionError:
                pass
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def said(self, *words, **more):
        done = subprocess.run(words, env=self.environment | more, cwd=self.dir, text=True, capture_output=True, timeout=PATIENCE)
        return (done.stdout + (done.stderr if done.returncode else "")).strip()


# ---- Jobs ----------------------------------------------------------------------------------------------

class Job:
    """sbatch of one of the files; what is asked of Slurm in it is too much for this machine, so `options` say less."""

    def __init__(self, cluster, script, options, *arguments, mpi="pmi2", **more):
        self.cluster, self.name = cluster, f"{script}-{time.monotonic_ns()}"
        self.id = cluster.said("sbatch", "--parsable", f"--output={self.name}-%a.out", "--hint=multithread", *options, SCRIPTS / f"{script}.sbatch",
                               *arguments, MPI=mpi, **more)
        assert self.id.isdigit(), self.id

    def state(self):
        found = self.cluster.said("scontrol", "show", "job", self.id)
        return [word.split("=")[1] for word in found.split() if word.startswith("JobState=")]

    def text(self):
        """Of all tasks, where it is an array."""
        return "".join(path.read_text() for path in sorted(self.cluster.dir.glob(f"{self.name}-*.out")))

    def end(self, *states):
        """Waits until it has ended, in one of these states."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY")
        found = wait_until(f"job {self.id} has ended", lambda: (s := self.state()) and all(one in over for one in s) and s)
        if not all(one in (states or ("COMPLETED",)) for one in found):
            raise AssertionError(f"job {self.id} is {found}:\n{self.text()}")
        return self.text()

    def fields(self):
        return dict(word.split("=", 1) for word in self.cluster.said("scontrol", "show", "job", self.id).split() if "=" in word)

    def run_again(self, times):
        """Waits until it has been started again so often. What is queued again would not begin for two minutes by itself, as
        credentials of before it was killed have to be told from new ones, by times in whole seconds."""
        since = []

        def found():
            fields = self.fields()
            gone = fields.get("JobState") == "PENDING" and self.cluster.said("sinfo", "-h", "-t", "idle", "-o", "%D") == "2"
            if gone and not since:
                since.append(time.monotonic())
            if gone and time.monotonic() > since[-1] + 3:
                self.cluster.said("scontrol", "update", f"JobId={self.id}", "StartTime=now")
                since.append(time.monotonic())
            return fields.get("Restarts") == str(times) and fields.get("JobState") in ("RUNNING", "COMPLETED")
        try:
            wait_until(f"job {self.id} runs again", found)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.fields()}\n{self.text()}") from None


def expect(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError(f"expected '{part}' in:\n{text}")


def expect_same(a, b):
    if a.read_bytes() != b.read_bytes():
        raise AssertionError(f"{a} differs from {b}")


# ---- Trainings -----------------------------------------------------------------------------------------

def make_world(directory):
    def kvdata(*words):
        subprocess.run([BUILD / "data/kvdata", *words], cwd=directory, check=True, capture_output=True, text=True)

    kvdata("atlas", "--facts", "300", "--out", "atlas")
    kvdata("tokenizer", "--input", "atlas/train.jsonl", "--vocab-size", "400", "--out", "tokenizer")
    kvdata("tokenize", "--min-chars", "0", "--min-tokens", "0", "--tokenizer", "tokenizer.model", "--out", "train.h5", "atlas/train.jsonl")
    (directory / "common.yaml").write_text(
        "task: lm\noutput: unused\ndata: {train: train.h5, seq_len: 64, batch_size: 8}\n"
        "train: {steps: 20, lr: 4.0e-3, warmup_steps: 2, checkpoint_every: 1000, log_every: 1}\n")
    (directory / "lm.yaml").write_text(
        "extends: common.yaml\n"
        "model: {from: scratch, n_layers: 2, model_dim: 32, head_dim: 8, n_heads: 4, n_kv_heads: 2, ffn_dim: 64, context_length: 128}\n")
    (directory / "base.yaml").write_text("extends: lm.yaml\noutput: base\n")
    (directory / "more.yaml").write_text("extends: common.yaml\nmodel: {from: checkpoint, path: base/final/model}\n")
    (directory / "sweep.yaml").write_text("output: sweep\nprepare: [base.yaml]\ntrain: more.yaml\ngrid: {train.lr: [1e-3, 2e-3, 3e-3]}\n")


WEIGHTS = "final/model/model.safetensors"
TWO_RANKS = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1")


def check_nodes(cluster, mpi):
    """One node or two: two ranks are two ranks."""
    one = Job(cluster, "one_node", TWO_RANKS, "lm.yaml", "-o", f"one-{mpi}", mpi=mpi)
    expect(one.end(), "kvtrain: 2 ranks on 1 host (", "; 1 thread a rank, ", f"one-{mpi}/final")
    many = Job(cluster, "many_nodes", ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1"), "lm.yaml", "-o", f"many-{mpi}", mpi=mpi)
    expect(many.end(), "kvtrain: 2 ranks on ", f"many-{mpi}/final")
    expect_same(cluster.dir / f"one-{mpi}" / WEIGHTS, cluster.dir / f"many-{mpi}" / WEIGHTS)


def check_array(cluster, _):
    array = Job(cluster, "sweep_array", ("--array=1-3", "--cpus-per-task=1"), "sweep.yaml")
    table = Job(cluster, "sweep_table", (f"--dependency=afterany:{array.id}", "--cpus-per-task=1"), "sweep.yaml")
    expect(array.end(), "share 1/3 is done", "share 2/3 is done", "share 3/3 is done", "base.yaml, which the runs start from")
    expect(table.end(), "3 of 3 runs are done already", "lr=3e-3")
    if len((cluster.dir / "sweep/table.csv").read_text().splitlines()) != 4:
        raise AssertionError((cluster.dir / "sweep/table.csv").read_text())
    if len((cluster.dir / "base/machines.jsonl").read_text().splitlines()) != 1:
        raise AssertionError("base was trained more than once")


def at_work(cluster, output, n_lines=3):
    path = cluster.dir / output / "metrics.jsonl"
    return path.exists() and path.read_text().count("\n") >= n_lines


LONG = ("-s", "train.steps=300", "-s", "data.batch_size=16")


def check_requeue(cluster, mpi):
    """Warned as its time runs out, and later queued again by an administrator: the weights are those of one never stopped."""
    whole = Job(cluster, "requeue", TWO_RANKS, "lm.yaml", *LONG, "-o", "whole", mpi=mpi)
    whole.end()
    job = Job(cluster, "requeue", TWO_RANKS, "lm.yaml", *LONG, "-o", "requeued", mpi=mpi)
    wait_until("it trains", lambda: at_work(cluster, "requeued"))
    cluster.said("scancel", "--batch", "--signal=USR1", job.id)  # as --signal=B:USR1@120 does
    job.run_again(1)
    expect(job.text(), "interrupted after step ", "out of time, queued again")
    n_lines = (cluster.dir / "requeued/metrics.jsonl").read_text().count("\n")
    wait_until("it trains again", lambda: at_work(cluster, "requeued", n_lines + 5))
    cluster.said("scontrol", "requeue", job.id)
    job.run_again(2)
    text = job.end()
    if text.count("resuming from requeued/checkpoints/step-") != 2:
        raise AssertionError(f"expected to be resumed twice:\n{text}")
    expect_same(cluster.dir / "whole" / WEIGHTS, cluster.dir / "requeued" / WEIGHTS)


def check_cancel(cluster, mpi):
    job = Job(cluster, "one_node", TWO_RANKS, "lm.yaml", "-s", "train.steps=20000", "-o", "cancelled", mpi=mpi)
    wait_until("it trains", lambda: at_work(cluster, "cancelled"))
    cluster.said("scancel", job.id)
    job.end("CANCELLED")
    wait_until("it is gone", lambda: not cluster.said("squeue", "-h"))
    checkpoints = list((cluster.dir / "cancelled/checkpoints").glob("step-*"))
    if len(checkpoints) != 1 or (cluster.dir / "cancelled/final").exists():
        raise AssertionError(f"{checkpoints}\n{job.text()}")


def check_refused(cluster, _):
    """Without --mpi each would take itself to be alone, and all would write the same files."""
    said = cluster.said("srun", "-n2", "--mpi=none", str(BUILD / "train/kvtrain"), "lm.yaml", "-o", "none")
    expect(said, "srun has started 2 processes without MPI", "--mpi=pmi2")
    if (cluster.dir / "none").exists():
        raise AssertionError("it has trained all the same")


def main():
    directory = Path(tempfile.mkdtemp(prefix="kv-slurm-"))
    cluster = Cluster(directory)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what meson sends when time is up
    try:
        cluster.start()
        listed = cluster.said("srun", "--mpi=list").split()
        mpis = [mpi for mpi, sign in MPIS.items() if os.environ.get(sign) and mpi in listed]
        if not mpis:
            raise Skip(f"no MPI here that srun starts: found {' '.join(listed)}")
        make_world(directory)
        checks = [(check_nodes, mpi) for mpi in mpis] + [(check, mpis[0]) for check in (check_refused, check_array, check_cancel)]
        checks += [(check_requeue, mpis[-1])]
        for check, mpi in checks:
            began = time.monotonic()
            check(cluster, mpi)
            print(f"{check.__name__} ({mpi}): {time.monotonic() - began:.1f} s", flush=True)
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
