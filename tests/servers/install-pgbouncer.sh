# PgBouncer, which stands between applications and PostgreSQL: unpacked, so that no service of it is made or started.
# Read by tests/install-servers.

has_pgbouncer() { [ -x .servers/pgbouncer/usr/sbin/pgbouncer ] && .servers/pgbouncer/usr/sbin/pgbouncer --version; } >/dev/null 2>&1
install_pgbouncer() (
    part=.servers/.pgbouncer.part
    rm -rf "$part" && mkdir -p "$part/fs" || return 1
    apt update && apt install --no-install-recommends libevent-2.1-7 libc-ares2 || return 1
    # Downloaded to where apt's own user may write.
    { (cd "$part" && chmod 777 . && apt-get -qq download pgbouncer); } >>"$log" 2>&1 || return 1
    dpkg -x "$part"/pgbouncer_*.deb "$part/fs" && mv "$part/fs" .servers/pgbouncer && rm -rf "$part"
)
if ! has_pgbouncer; then
    if ! on_debian; then
        lacking "PgBouncer" "this is not Debian"
    elif [ "$(id -u)" != 0 ]; then
        lacking "PgBouncer" "this needs root, for its libraries"
    elif install_pgbouncer && has_pgbouncer; then
        note "installed PgBouncer in .servers/pgbouncer"
    else
        lacking "PgBouncer" "apt-get failed, see $log"
    fi
fi
