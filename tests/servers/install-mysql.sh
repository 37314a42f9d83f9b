# Read by tests/install-servers, whose functions it uses: MariaDB from apt, and Oracle's MySQL, unpacked aside.

# The packages with the server itself, and without the service that uses it: nothing is enabled or started.
install_mariadb() {
    mkdir -p .servers
    apt update && apt install --no-install-recommends mariadb-server-core mariadb-client
}

if ! { command -v mariadbd && command -v mariadb-install-db && command -v mariadb-dump; } >/dev/null; then
    if ! on_debian; then
        lacking "MariaDB" "this is not Debian; install its server and client packages by hand"
    elif [ "$(id -u)" != 0 ]; then
        lacking "MariaDB" "this needs root; run 'apt-get install mariadb-server-core mariadb-client'"
    elif install_mariadb; then
        note "installed the distribution's MariaDB"
    else
        lacking "MariaDB" "apt-get failed, see $log"
    fi
fi

# Debian has Oracle's MySQL in its unstable suite only. An apt with a state of its own, and with nothing installed as
# far as it knows, fetches it with all its libraries and verifies them; the system's apt and packages stay as they are.
# Which version that is cannot be pinned, and a day may come when there is none.
mysql=.servers/mysql

fetch_mysql() { # folder
    state=$1/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/none.d" "$1/fs"
    # From where this system has its own packages, which it can tell when it has looked there.
    apt update || return 1
    site=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Identifier: Packages' | sed -n 's/ Debian$//p' | head -n 1)
    [ -n "$site" ] || return 1
    echo "deb [signed-by=$keyring] $site sid main" >"$state/sources.list"
    : >"$state/status"
    : >"$state/none"
    sid() {
        apt-get -qq -o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" \
            -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" -o Dir::Etc::sourcelist="$state/sources.list" \
            -o Dir::Etc::sourceparts="$state/none.d" -o Dir::Etc::preferencesparts="$state/none.d" \
            -o Dir::Etc::preferences="$state/none" -o APT::Sandbox::User= -o APT::Install-Recommends=false \
            -o APT::Update::Post-Invoke::= -o APT::Update::Post-Invoke-Success::= -o APT::Keep-Downloaded-Packages=true \
            -o Acquire::Languages=none -o Debug::NoLocking=true "$@" >>"$log" 2>&1
    }
    sid update || return 1
    sid --yes --download-only install mysql-server-core mysql-client-core || return 1
    for package in "$state"/archives/*.deb; do
        case ${package##*/} in
            perl* | libperl*) ;;
            *) dpkg-deb -x "$package" "$1/fs" || return 1 ;;
        esac
    done
    # They are newer than the system's C library, and run with their own. `exec` gives the wrapper's place to them.
    mkdir "$1/bin"
    for program in usr/sbin/mysqld usr/bin/mysql usr/bin/mysqldump; do
        cat >"$1/bin/${program##*/}" <<'WRAPPER' || return 1
#!/bin/sh
fs=$(dirname "$(readlink -f "$0")")/../fs
exec "$fs/usr/lib64/ld-linux-x86-64.so.2" --library-path "$fs/usr/lib/x86_64-linux-gnu:$fs/usr/lib/mysql/private" \
WRAPPER
        echo "    \"\$fs/$program\" \"\$@\"" >>"$1/bin/${program##*/}"
        chmod 755 "$1/bin/${program##*/}"
    done
    "$1/bin/mysqld" --no-defaults --version >>"$log" 2>&1 && "$1/bin/mysqldump" --no-defaults --version >>"$log" 2>&1
}

if ! [ -e "$mysql/.complete" ]; then
    if ! on_debian || [ "$(uname -m)" != x86_64 ]; then
        lacking "MySQL" "its packages are for Debian on x86_64 only"
    else
        work=$(mkdir -p .servers && cd .servers && pwd -P)/mysql.part
        rm -rf "$work"
        if fetch_mysql "$work"; then
            rm -rf "$mysql" "$work/apt"
            touch "$work/.complete"
            mv "$work" "$mysql"
            note "installed $("$mysql/bin/mysqld" --no-defaults --version | sed 's/.*\(Ver [0-9.]*\).*/MySQL \1/') in $mysql"
        else
            rm -rf "$work"
            lacking "MySQL" "Debian's unstable suite could not be fetched or does not run here, see $log"
        fi
    fi
fi
