#!/usr/bin/env bash
# Part of ./quickstart: ports, secrets and configuration files of the cluster in $data.

# --- ports --------------------------------------------------------------------------------------------

# Prints the first of the ports that is taken; fails then. perl-base is on every Debian.
taken_port() {
    perl -MIO::Socket::INET -e '
        my @held;
        for my $port (@ARGV) {
            my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1,
                                          Proto => "tcp", ReuseAddr => 1);
            if (!$s) { print "$port\n"; exit 0 }
            push @held, $s;
        }
        exit 1' "$@"
}

all_ports() {
    local node name
    echo "$port_orchestrator" "$port_redis" $port_minio
    for node in $nodes; do
        name=port_agent_$node; echo "${!name}"
        name=port_postgres_$node; echo "${!name}"
    done
}

# Eleven neighbouring ports below those that the kernel hands out by itself.
choose_ports() {
    local base=$1 node i
    for (( ; base < 30000; base += 20)); do
        port_orchestrator=$base port_minio=$((base + 8)) port_redis=$((base + 9)) i=1
        for node in $nodes; do
            printf -v "port_agent_$node" %d $((base + i))
            printf -v "port_postgres_$node" %d $((base + 10 + i))
            i=$((i + 1))
        done
        # shellcheck disable=SC2046
        if ! taken_port $(all_ports) >/dev/null; then
            [ "$minio_wanted" = yes ] || port_minio=
            return 0
        fi
    done
    die "no eleven free ports between $1 and 30000 on 127.0.0.1"
}

# --- configuration ------------------------------------------------------------------------------------

# A text in double quotes, as YAML and redis.conf understand them.
q() {
    local s=${1//\\/\\\\}
    printf '"%s"' "${s//\"/\\\"}"
}

# Is there a MinIO beside the cluster?
with_minio() { [ -n "$port_minio" ]; }

store_url() { echo "s3+http://127.0.0.1:$port_minio/snapshots/$cluster"; }

port_of() { local name=port_$1_$2; echo "${!name}"; }

secret() {
    local file=$data/secrets/$1
    as_user test -s "$file" || as_user bash -c '
        umask 077
        head -c 24 /dev/urandom | base64 | tr "+/" "-_" >"$1.new" && mv "$1.new" "$1"' _ "$file"
}

agents_yaml() {
    local node
    for node in $nodes; do
        [ "$node" != "$1" ] || continue
        printf '%s- {id: %s, agent: "127.0.0.1:%s"}\n' "$2" "$node" "$(port_of agent "$node")"
    done
}

secret_files_yaml() {
    local prefix=$1 name
    shift
    for name in "$@"; do
        printf '  %s: %s\n' "$name" "$(q "$data/secrets/$prefix-$name")"
    done
}

agent_yaml() {
    local node=$1
    cat <<YAML
cluster: $cluster
node: $node
listen: "127.0.0.1:$(port_of agent "$node")"
data_directory: $(q "$data/$node/data")
state_directory: $(q "$data/$node/state")
postgres_bindir: $(q "$pg_bindir")
# three nodes share this machine with whatever else it does
memory_percent: 15
postgres:
  host: 127.0.0.1
  port: $(port_of postgres "$node")
peers:
$(agents_yaml "$node" "  ")
tokens:
$(secret_files_yaml token read admin peer)
passwords:
$(secret_files_yaml password superuser replication rewind monitor owner)
YAML
    ! with_minio || cat <<YAML
snapshots:
  credentials_file: $(q "$data/secrets/store-credentials")
YAML
}

orchestrator_yaml() {
    cat <<YAML
listen: "127.0.0.1:$port_orchestrator"
tokens:
$(secret_files_yaml token read admin peer)
passwords:
$(secret_files_yaml password monitor)
clusters:
  - name: $cluster
    nodes:
$(agents_yaml "" "      ")
YAML
    [ -z "$redis_server" ] || cat <<YAML
redis:
  address: "127.0.0.1:$port_redis"
  password_file: $(q "$data/secrets/password-redis")
YAML
}

ogelctl_yaml() {
    cat <<YAML
orchestrators:
  - "127.0.0.1:$port_orchestrator"
token: $(q "$data/secrets/token-admin")
cluster: $cluster
YAML
}

redis_conf() {
    cat <<CONF
bind 127.0.0.1
port $port_redis
requirepass $(as_user cat "$data/secrets/password-redis")
dir $(q "$data/redis")
daemonize no
save ""
appendonly no
CONF
}

ogelctl_wrapper() {
    cat <<'SH'
#!/bin/sh
# ogelctl for the quickstart's cluster.
here=$(dirname "$(readlink -f "$0")")
: "${OGELCTL_CONFIG:=$here/etc/ogelctl.yaml}" "${PGPASSFILE:=$here/secrets/pgpass}"
export OGELCTL_CONFIG PGPASSFILE
SH
    ! with_minio || cat <<SH
: "\${OGEL_STORE:=$(store_url)}"
export OGEL_STORE
if [ -r "\$here/secrets/store-credentials" ]; then
    IFS=: read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY <"\$here/secrets/store-credentials"
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
fi
SH
    # shellcheck disable=SC2016
    echo 'exec "$here/bin/ogelctl" "$@"'
}

# Passwords for psql: any host, any port, by role.
pgpass() {
    as_user bash -c '
        umask 077
        cd "$1"
        printf "*:*:*:%s:%s\n" postgres "$(cat password-superuser)" app "$(cat password-owner)" >pgpass
    ' _ "$data/secrets"
}

write_settings() {
    {
        echo "user=$user"
        echo "port_orchestrator=$port_orchestrator"
        echo "port_redis=$port_redis"
        ! with_minio || echo "port_minio=$port_minio"
        local node
        for node in $nodes; do
            echo "port_agent_$node=$(port_of agent "$node")"
            echo "port_postgres_$node=$(port_of postgres "$node")"
        done
    } >"$data/settings.new"
    mv "$data/settings.new" "$data/settings"
}

# MinIO's, and those of everybody who reads or writes there.
store_credentials() {
    # shellcheck disable=SC2016
    as_user test -s "$data/secrets/store-credentials" || as_user bash -c '
        umask 077
        cd "$1"
        printf "%s:%s\n" quickstart "$(cat password-store)" >store-credentials' _ "$data/secrets"
}

configure_minio() {
    local program=${minio_program:-$data/bin/minio}
    secret password-store
    store_credentials
    as_user mkdir -p -m 700 "$data/minio" "$data/minio/snapshots" # a bucket is a directory there
    [ "$program" = "$data/bin/minio" ] || cmp -s "$program" "$data/bin/minio" || {
        install -m 755 "$program" "$data/bin/minio.new"
        mv "$data/bin/minio.new" "$data/bin/minio"
    }
}

configure() {
    step configuration
    local dir node name
    mkdir -p "$data/bin" "$data/etc"
    for dir in run log secrets redis ${port_minio:+minio} $nodes; do
        if [ "$(id -u)" -eq 0 ]; then
            install -d -m 700 -o "$user" -g "$(id -gn "$user")" "$data/$dir"
        else
            install -d -m 700 "$data/$dir"
        fi
    done
    for node in $nodes; do
        as_user mkdir -p -m 700 "$data/$node/state"
    done
    for name in token-read token-admin token-peer password-superuser password-replication password-rewind \
        password-monitor password-owner password-redis; do
        secret "$name"
    done
    pgpass
    ! with_minio || configure_minio
    for name in ogel-agent ogel-orchestrator ogelctl; do
        cmp -s "$builddir/$name" "$data/bin/$name" || {
            install -m 755 "$builddir/$name" "$data/bin/$name.new"
            mv "$data/bin/$name.new" "$data/bin/$name"
        }
    done
    redis_server=$(command -v redis-server || true)
    for node in $nodes; do
        agent_yaml "$node" >"$data/etc/agent-$node.yaml"
    done
    orchestrator_yaml >"$data/etc/orchestrator.yaml"
    ogelctl_yaml >"$data/etc/ogelctl.yaml"
    ogelctl_wrapper >"$data/ogelctl"
    chmod 755 "$data/ogelctl" "$data/etc" "$data/bin"
    chmod 644 "$data"/etc/*.yaml
    [ -z "$redis_server" ] || redis_conf | as_user bash -c 'umask 077; cat >"$1"' _ "$data/redis/redis.conf"
    step_done "$(shown "$data")"
}

# A path as one would type it here.
shown() {
    case $1 in
        "$PWD"/*) printf '%s' "${1#"$PWD"/}" ;;
        *) printf '%s' "$1" ;;
    esac
}
