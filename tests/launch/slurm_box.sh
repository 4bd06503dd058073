#!/usr/bin/env bash
# slurm_box.sh up|down FOLDER: a real SLURM of four nodes on this machine (Debian's packages, no systemd, loopback only) for tests.
# Needs root. Beside FOLDER it leaves a line in /etc/hosts, which `down` takes back.
set -euo pipefail
folder=${2:?folder}
host=$(hostname -s)
nodes=4 port=17817
export SLURM_CONF=$folder/slurm.conf

install_slurm() {
    # Tests run side by side, and apt serves one at a time.
    exec 9>"${TMPDIR:-/tmp}/fteng-apt.lock"
    flock 9
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && exec 9>&- && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
    exec 9>&-
}

configure() {
    mkdir -p "$folder"/{state,spool,log,run,munge}
    chmod 755 "$folder"
    chmod 700 "$folder/munge"
    head -c 128 /dev/urandom >"$folder/munge/key"
    chmod 600 "$folder/munge/key"
    cat >"$SLURM_CONF" <<CONF
ClusterName=box
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
# Else a job that is queued again waits two minutes for its old credential to lapse.
AuthInfo=socket=$folder/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
KillWait=10
MinJobAge=3600
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

up() {
    install_slurm
    configure
    # JAX resolves the nodes' names.
    grep -q '# fteng-slurm-box$' /etc/hosts || echo "127.0.0.1 $(seq -s ' ' -f 'n%.0f' $nodes) # fteng-slurm-box" >>/etc/hosts
    munged --force --key-file="$folder/munge/key" --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" --num-threads=2
    slurmctld -f "$SLURM_CONF"
    for node in $(seq $nodes); do
        mkdir -p "$folder/spool/n$node"
        slurmd -N "n$node" -f "$SLURM_CONF"
    done
    for _ in $(seq 120); do
        [[ $(sinfo -h -N -p main -o '%N %T' 2>/dev/null | grep -c ' idle$') == "$nodes" ]] && return
        scontrol update nodename="n[1-$nodes]" state=resume 2>/dev/null || true
        sleep 0.25
    done
    tail -n 20 "$folder"/log/slurm*.log >&2
    return 1
}

down() {
    scancel --quiet --user=root 2>/dev/null || true
    sleep 1
    for file in "$folder"/run/slurmd-*.pid "$folder"/run/slurmctld.pid "$folder"/run/munged.pid; do
        [[ -s $file ]] && kill "$(<"$file")" 2>/dev/null || true
    done
    sed '/# fteng-slurm-box$/d' /etc/hosts >"$folder/hosts" && cat "$folder/hosts" >/etc/hosts
}

"$1"
