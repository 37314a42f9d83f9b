"""A settings file to begin with."""

__all__ = ["EXAMPLE"]

EXAMPLE = """\
# The settings of Penstock. Relative paths are relative to this file. It holds no secrets, only where to find them.
# penstock config check reports every mistake without connecting to anything.

[repositories.main]
url = "file:///srv/backups/main"        # the scheme chooses the plugin: penstock plugins lists what is installed
# key = "main.key"                      # else ~/.config/penstock/keys/<repository id>.key
# passphrase = { file = "/root/penstock-passphrase" }   # or { env = "NAME" }, { command = ["pass", "show", "x"] }
# pack_size = "4MiB"                    # for a line that breaks large uploads; else 16MiB
# limit_upload = "10MiB"                # per second, on average; limit_download likewise

[backups.shop]
url = "sqlite:///srv/shop/shop.db"      # or: type = "sqlite" and the plugin's own settings, such as path = "shop.db"
# repository = "main"                   # required when there are several
# memory = "256MiB"
# jobs = 2                              # streams that are dumped at once: memory is shared, 64MiB for each at least

[defaults]
# memory = "128MiB"                     # for buffers, at least 64MiB
# compression = "auto"                  # or a zstd level from 1 to 19
# cache_size = "2GiB"                   # for what is remembered of a dump; else a tenth of it
# cache = "/var/cache/penstock"
# keep = { last = 7, daily = 14, weekly = 8, monthly = 12 }   # what penstock forget keeps; else everything
# renew_every = "90d"                   # stores everything anew, so that old packs can go; else never
# timezone = "Europe/Berlin"            # whose days, weeks and months; else UTC
"""
