# Read by tests/install-servers, whose functions it uses: Azurite, Microsoft's emulator of Azure Storage, through npm.

azurite=.servers/azurite
azurite_version=3.35.0

install_azurite() {
    rm -rf "$azurite.part" && mkdir -p "$azurite.part" || return 1
    echo '{ "private": true }' >"$azurite.part/package.json"
    # Without scripts: no code of its hundreds of packages runs at installation.
    npm --prefix "$azurite.part" install --ignore-scripts --no-audit --no-fund --save-exact \
        "azurite@$azurite_version" >>"$log" 2>&1 || return 1
    [ -f "$azurite.part/node_modules/azurite/dist/src/blob/main.js" ] || return 1
    echo "$azurite_version" >"$azurite.part/.version"
    rm -rf "$azurite"
    mv "$azurite.part" "$azurite"
}

if [ "$(cat "$azurite/.version" 2>/dev/null)" != "$azurite_version" ]; then
    mkdir -p .servers
    if ! { command -v node && command -v npm; } >/dev/null; then
        lacking "Azurite" "it needs Node.js and npm"
    elif install_azurite; then
        note "installed Azurite $azurite_version in $azurite"
    else
        rm -rf "$azurite.part"
        lacking "Azurite" "npm failed, see $log"
    fi
fi
