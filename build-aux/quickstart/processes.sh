#!/usr/bin/env bash
# Part of ./quickstart: starts, recognises and stops the processes of the cluster in $data.

# Boot and start time: with the pid they name one process for ever. Empty if there is none.
identity() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] || return 0
    printf '%s %s' "$(cat /proc/sys/kernel/random/boot_id)" "${20}"
}

# The pid of a daemon of ours that is alive; a recycled pid is none.
alive() {
    local pid born
    { read -r pid born <"$data/run/$1.pid"; } 2>/dev/null || return 1
    [ -n "$pid" ] && [ -n "$born" ] && [ "$(identity "$pid")" = "$born" ] || return 1
    echo "$pid"
}

# start_daemon NAME COMMAND...: in a session of its own, with a clean environment.
start_daemon() {
    local name=$1
    shift
    ! alive "$name" >/dev/null || return 0
    # shellcheck disable=SC2016
    (cd "$data" && as_user env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$data" LANG=C.UTF-8 \
        OGEL_QUICKSTART="$data" OGEL_CTL="$data/bin/ogelctl" setsid --fork bash -c "$(declare -f identity)"'
            umask 077
            name=$1
            shift
            exec >>"log/$name.log" 2>&1
            echo "$$ $(identity $$)" >"run/$name.pid.new" && mv "run/$name.pid.new" "run/$name.pid"
            exec "$@"' _ "$name" "$@" </dev/null 9>&-)
}

daemons() {
    [ ! -e "$data/redis/redis.conf" ] || echo redis
    ! with_minio || echo minio
    local node
    for node in $nodes; do echo "agent-$node"; done
    echo orchestrator
}

# Its credentials come through the environment, which nobody else sees.
start_minio() {
    # shellcheck disable=SC2016
    start_daemon minio bash -c '
        IFS=: read -r MINIO_ROOT_USER MINIO_ROOT_PASSWORD <secrets/store-credentials
        export MINIO_ROOT_USER MINIO_ROOT_PASSWORD MINIO_BROWSER=off MINIO_UPDATE=off
        exec bin/minio server --address "127.0.0.1:$1" --quiet minio' _ "$port_minio"
}

start_daemons() {
    step processes
    local name node
    [ -z "$redis_server" ] || start_daemon redis "$redis_server" "$data/redis/redis.conf"
    ! with_minio || start_minio
    for node in $nodes; do
        start_daemon "agent-$node" "$data/bin/ogel-agent" --config "$data/etc/agent-$node.yaml"
    done
    start_daemon orchestrator "$data/bin/ogel-orchestrator" --config "$data/etc/orchestrator.yaml"
    # Each answers or is gone within moments.
    local deadline=$(($(now_ms) + 15000))
    for name in $(daemons); do
        until alive "$name" >/dev/null; do
            [ "$(now_ms)" -lt "$deadline" ] || failed "$name did not start" "$data/log/$name.log"
            sleep 0.02
        done
    done
    step_done "$(daemons | tr '\n' ' ')"
}

check_daemons() {
    local name
    for name in $(daemons); do
        alive "$name" >/dev/null || failed "$name has stopped" "$data/log/$name.log"
    done
}

signal() { as_user bash -c 'kill -s "$1" "$2" && kill -s CONT "$2"' _ "$1" "$2" 2>/dev/null || true; }

# stop_daemon NAME SECONDS
stop_daemon() {
    local pid deadline
    pid=$(alive "$1") || return 0
    deadline=$(($(now_ms) + $2 * 1000))
    show_progress "$1"
    signal TERM "$pid"
    while alive "$1" >/dev/null; do
        if [ "$(now_ms)" -gt "$deadline" ]; then
            say "  $1 (pid $pid) did not stop within $2 s: killed"
            signal KILL "$pid"
            deadline=$((deadline + 10000))
        fi
        sleep 0.05
    done
}

# The postmaster of a node; the pid in the file counts only if it works in that directory.
postmaster() {
    local dir=$data/$1/data pid
    { read -r pid <"$dir/postmaster.pid"; } 2>/dev/null || return 1
    [ "$(readlink "/proc/$pid/cwd")" = "$dir" ] || return 1
    echo "$pid"
}

stop_postgres() {
    local pid deadline
    pid=$(postmaster "$1") || return 0
    show_progress "PostgreSQL of $1"
    signal INT "$pid"
    deadline=$(($(now_ms) + 60000))
    while postmaster "$1" >/dev/null; do
        if [ "$(now_ms)" -gt "$deadline" ]; then
            say "  PostgreSQL of $1 (pid $pid) did not stop within 60 s: stopped hard, it recovers when it starts"
            signal QUIT "$pid"
            deadline=$((deadline + 10000))
        fi
        sleep 0.05
    done
}

# What a killed agent may have left: a clone or a rewind under way. Ours carry our mark.
stop_strays() {
    local environ pid
    for environ in /proc/[0-9]*/environ; do
        pid=${environ#/proc/} pid=${pid%/environ}
        if as_user tr '\0' '\n' <"$environ" 2>/dev/null | grep -qxF "OGEL_QUICKSTART=$data"; then
            signal TERM "$pid"
        fi
    done 2>/dev/null
}

# With the agents gone nobody elects, and with the leader first its standbys still get all of its WAL: at the
# next start the three attach to whichever leads, and none has to be rewound.
stop_all() {
    local node leader=
    step stop
    stop_daemon orchestrator 15
    for node in $nodes; do
        if [ -f "$data/$node/data/PG_VERSION" ] && [ ! -f "$data/$node/data/standby.signal" ]; then
            leader=$node
        fi
    done
    for node in $nodes; do stop_daemon "agent-$node" 30; done
    [ -z "$leader" ] || stop_postgres "$leader"
    for node in $nodes; do stop_postgres "$node"; done
    stop_daemon redis 10
    ! with_minio || stop_daemon minio 10
    stop_strays
    step_done "everything is stopped; the data is in $(shown "$data")"
}
