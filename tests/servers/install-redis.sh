# Read by tests/install-servers, whose functions it uses: Redis from apt, for the example source.

# The package of the tools has the server's program, too (redis-check-rdb, under another name), and no service.
install_redis() {
    mkdir -p .servers
    apt update && apt install --no-install-recommends redis-tools
}

if ! { command -v redis-cli && { command -v redis-server || command -v redis-check-rdb; }; } >/dev/null; then
    if ! on_debian; then
        lacking "Redis" "this is not Debian; install its server and tools by hand"
    elif [ "$(id -u)" != 0 ]; then
        lacking "Redis" "this needs root; run 'apt-get install redis-tools'"
    elif install_redis; then
        note "installed the distribution's Redis"
    else
        lacking "Redis" "apt-get failed, see $log"
    fi
fi
