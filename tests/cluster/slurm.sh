#!/usr/bin/env bash
# A Slurm of one node for the tests: two partitions and two GPUs that are not there, all of it below one folder and beside
# whatever Slurm the machine may have. No systemd, no cgroups; root and Debian's packages are needed.
#   tests/cluster/slurm.sh can      exit code 0 if it can run here, else what is missing
#   tests/cluster/slurm.sh install  the packages
#   tests/cluster/slurm.sh start    the daemons, unless they run
#   tests/cluster/slurm.sh stop     end the daemons and remove the folder
set -euo pipefail
ROOT=${SLURM_TEST_ROOT:-/tmp/cvae_protein-slurm}
PORT=${SLURM_TEST_PORT:-16817}
HOST=$(hostname -s)
CPUS=${SLURM_TEST_CPUS:-4} # jobs mostly wait for each other's start, so two cores carry four
MEMORY=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PROGRAMS="slurmctld slurmd sbatch squeue scancel munged"
export SLURM_CONF=$ROOT/etc/slurm.conf
FOUND=/etc/slurm/slurm.conf # where jobs look, since Snakemake takes SLURM_* out of their environment

missing() {
    for program in $PROGRAMS; do
        command -v "$program" >/dev/null || echo "$program"
    done
}

can() {
    local absent
    absent=$(missing | tr '\n' ' ')
    if [ -e "$FOUND" ] && [ "$(readlink "$FOUND")" != "$SLURM_CONF" ]; then
        echo "$FOUND: this machine has a Slurm already; the tests' own would stand in its way" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "the tests' Slurm is started by root; this is $(id -un)" >&2
        return 1
    elif [ -n "$absent" ]; then
        echo "not installed: $absent(tests/cluster/slurm.sh install, as root on Debian or Ubuntu)" >&2
        return 1
    fi
}

install_packages() {
    [ -n "$(missing)" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Slurm is not installed; that takes root and apt-get: apt-get install slurm-wlm munge" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # No daemon of the packages is to start by itself: this script starts its own.
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
    mkdir -p "$ROOT"/{etc,state,spool,log,munge,devices}
    chmod 755 "$ROOT" "$ROOT/munge"
    [ -s "$ROOT/etc/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$ROOT/etc/munge.key")
    # A device file for each GPU, all of them like /dev/null: the same file cannot stand for two.
    for gpu in 0 1; do
        [ -e "$ROOT/devices/gpu$gpu" ] || mknod -m 666 "$ROOT/devices/gpu$gpu" c 1 3
    done
    cat >"$ROOT/etc/gres.conf" <<END
NodeName=$HOST Name=gpu Type=none File=$ROOT/devices/gpu[0-1]
END
    cat >"$ROOT/etc/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
END
    cat >"$SLURM_CONF" <<END
ClusterName=tests
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile=$ROOT/slurmctld.pid
SlurmdPidFile=$ROOT/slurmd.pid
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd.log
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=43200
KillWait=20
InactiveLimit=0
SlurmdTimeout=60
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY Gres=gpu:none:2 State=UNKNOWN
SlurmdParameters=config_overrides
PartitionName=cpu Nodes=$HOST Default=YES MaxTime=01:00:00 State=UP
PartitionName=gpu Nodes=$HOST Default=NO MaxTime=01:00:00 State=UP
END
    mkdir -p /etc/slurm
    ln -sfn "$SLURM_CONF" "$FOUND"
}

runs() { # the process of a pid file; a dead one that nobody has waited for does not run
    local state
    state=$(awk '/^State:/ {print $2}' "/proc/$(cat "$1" 2>/dev/null)/status" 2>/dev/null) || true
    [ -n "$state" ] && [ "$state" != Z ]
}

start() {
    can
    configure
    runs "$ROOT/munge/pid" || munged --force --key-file="$ROOT/etc/munge.key" --socket="$ROOT/munge/socket" \
        --pid-file="$ROOT/munge/pid" --log-file="$ROOT/log/munged.log" --seed-file="$ROOT/munge/seed"
    runs "$ROOT/slurmctld.pid" || slurmctld -c
    runs "$ROOT/slurmd.pid" || slurmd -N "$HOST"
    for _ in $(seq 100); do
        if [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ]; then
            srun -n 1 true
            return 0
        fi
        sleep 0.2
    done
    echo "Slurm did not come up; its logs:" >&2
    tail -n 20 "$ROOT"/log/*.log >&2
    return 1
}

stop() {
    [ -s "$SLURM_CONF" ] || return 0
    scancel -u "$(id -un)" 2>/dev/null || true
    for _ in $(seq 150); do # KillWait and a little more
        [ -n "$(squeue -h 2>/dev/null)" ] || break
        sleep 0.2
    done
    for file in "$ROOT"/slurmd.pid "$ROOT"/slurmctld.pid "$ROOT"/munge/pid; do
        if runs "$file"; then
            kill "$(cat "$file")"
            for _ in $(seq 50); do
                runs "$file" || break
                sleep 0.2
            done
        fi
    done
    rm -rf "$ROOT"
    [ "$(readlink "$FOUND")" != "$SLURM_CONF" ] || rm "$FOUND"
}

case "${1:-}" in
    can) can ;;
    install) install_packages ;;
    start) start ;;
    stop) stop ;;
    *)
        sed -n '2,7p' "$0" >&2
        exit 2
        ;;
esac
