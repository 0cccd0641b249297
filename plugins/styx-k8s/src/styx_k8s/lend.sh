#!/bin/sh
# Copies this image's Python to $1, with the libraries and the loader that it needs: it runs beside any C library.
set -eu
to=$1; mkdir -p "$to/bin" "$to/lib"
version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
cp -rL "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" "$to/lib/$version"
cp -L "$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" "$to/bin/real"
{ ldd "$to/bin/real"; ldd "$to/lib/$version"/lib-dynload/*.so; } | tr ' \t' '\n\n' | grep '^/.*\.so' | sort -u | while read -r lib; do
    case $lib in "$to"*) ;; *) cp -L "$lib" "$to/lib/";; esac
done
loader=$(ls "$to"/lib/ld-linux* | head -n 1)
printf '#!/bin/sh\nexec "%s" --argv0 "%s" --library-path "%s" "%s" "$@"\n' \
    "$loader" "$to/bin/python3" "$to/lib" "$to/bin/real" > "$to/bin/python3"
chmod 755 "$to/bin/python3"
