#!/usr/bin/env bash
# The private embedded server: server.sh start|stop|conninfo|psql
# It has no TCP port. Its socket lies in a folder that only the server's user can enter (and root),
# and whoever can enter is trusted as superuser: there is no password to lose.
source "$(dirname "$0")/lib.sh"

home=$run/$PG
data=$home/data
log=$home/log
database=${DB:-persona}
conninfo="host=$home port=5432 user=postgres dbname"

running() { [ -d "$data" ] && as_server "$pg/bin/pg_ctl" -D "$data" status >/dev/null; }
exists() { [ "$("$pg/bin/psql" -XAtd "$conninfo=postgres" -c "SELECT 1 FROM pg_database WHERE datname = '$1'")" = 1 ]; }

create() {
    make_run
    install -d -m 0700 "$home"
    if am_root; then chown "$user:" "$home"; fi
    as_server rm -rf "$data.new"
    as_server "$pg/bin/initdb" -D "$data.new" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
        --no-instructions >"$run/initdb.log" || { cat "$run/initdb.log" >&2; die "initdb failed"; }
    as_server tee -a "$data.new/postgresql.conf" >/dev/null <<CONF

# persona's embedded server
listen_addresses = ''
unix_socket_directories = '$home'
unix_socket_permissions = 0700
shared_preload_libraries = 'persona'
shared_buffers = 256MB
maintenance_work_mem = 256MB
max_wal_size = 2GB
CONF
    as_server mv "$data.new" "$data"
}

start() {
    as_server test -x "$pg/bin/postgres" || die "$pg is not there for user $user: run make deps"
    [ -d "$data" ] || create
    # A library that was installed since is loaded only by a new start.
    if running && [ "$("$pg/bin/pg_config" --pkglibdir)/persona.so" -nt "$data/postmaster.pid" ]; then
        say "restarting: persona was installed anew"
        stop
    fi
    running || as_server "$pg/bin/pg_ctl" -D "$data" -l "$log" -w -t 60 start >/dev/null ||
        { tail -20 "$log" >&2; die "the server did not start"; }
    exists persona || "$pg/bin/psql" -Xqd "$conninfo=postgres" -c 'CREATE DATABASE persona'
}

stop() {
    running || return 0
    as_server "$pg/bin/pg_ctl" -D "$data" -m fast -w -t 60 stop >/dev/null
}

need_running() { running || die "no server is running: make server starts one"; }

case ${1:-} in
    start)
        start
        say "Postgres $PG runs as user $user, data in $data, log in $log"
        say "connect: make psql, or psql \"$conninfo=$database\"; stop: make stop"
        ;;
    stop) stop ;;
    conninfo) need_running; say "$conninfo=$database" ;;
    psql)
        need_running
        # After the demo there is something to see in its database.
        if [ -z "${DB:-}" ] && exists demo; then database=demo; fi
        exec "$pg/bin/psql" -d "$conninfo=$database"
        ;;
    *) die "usage: server.sh start|stop|conninfo|psql" ;;
esac
